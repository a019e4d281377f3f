"""What ``make bench`` measures: each module one subject, side by side with its peer in one run."""
