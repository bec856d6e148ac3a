"""The command ``smartaug``: one file a subcommand, imported when it is called."""
