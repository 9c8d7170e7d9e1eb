"""The command line: one short file a command. It parses, calls a workflow and prints."""
