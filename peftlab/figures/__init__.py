"""Figures as inline SVG: drawn in Python, coloured by the page's style sheet, so that light and dark follow it."""
