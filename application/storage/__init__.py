"""Storage: the ports, and the SQL that both databases share."""
