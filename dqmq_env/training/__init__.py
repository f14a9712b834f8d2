"""What every training loop of the project shares: batches of mixed quality and exact resume."""
