"""Reports: records become tables, figures and one page."""
