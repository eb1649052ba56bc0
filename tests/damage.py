"""What becomes of files."""

DAMAGE = {
    "cut": b"{",
    "empty": b"",
    "garbage": bytes(range(256)),
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "another checksum": b'{"sha256": "0", "content": {"b": 1}}',
}
"""What a file holds after it, by what it is called."""
