"""The commands, each of which imports what it needs when it runs: --help is instant."""
