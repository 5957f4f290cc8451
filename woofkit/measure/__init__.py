"""What training costs, changes and forgets."""
