"""Values that cross the seams between stages."""
