"""What this machine gives at most, by programs that do one thing of what Leads does and nothing else."""
