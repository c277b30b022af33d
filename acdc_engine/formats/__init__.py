"""Other tools' formats, one file each: written and, where they hold enough, read back."""
