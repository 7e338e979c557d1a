"""What a person can ask for, by what they ask about; the CLI, the TUI and Python alike go through here."""
