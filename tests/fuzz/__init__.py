"""Random policy sets and packets: oracle, verdict engine and kernel must say the same. ``make fuzz`` runs it for longer."""
