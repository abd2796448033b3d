"""The numbers and tables of a comparison."""
