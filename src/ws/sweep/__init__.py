"""The numbers of a sweep."""
