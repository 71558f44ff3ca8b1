"""The built-in applications, a package each."""
