"""What is learned and how: preparation, models, strategies, checks and metrics."""
