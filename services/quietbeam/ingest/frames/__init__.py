"""Values, arrays, files and datums become frames."""
