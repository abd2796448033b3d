"""One file per published table: which columns, in which order, and what a healthy one looks like."""
