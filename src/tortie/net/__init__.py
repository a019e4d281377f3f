"""Addresses, prefixes and interface names as pure values. Imports nothing of Tortie's but its errors."""
