"""What happened, shown afterwards: the audit log and the lineage."""
