"""What is observed, what is rewarded, which budget holds."""
