"""Where content comes from first: HTTP and files."""
