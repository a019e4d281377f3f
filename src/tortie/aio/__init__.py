"""Running things side by side: supervised loops, bounded work, back-off, and named places where a fault test may kill."""
