"""What the trials share: the gateway under test, honest clients, and goals."""
