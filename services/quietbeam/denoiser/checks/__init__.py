"""Independent tests of a map."""
