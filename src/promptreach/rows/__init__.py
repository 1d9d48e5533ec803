"""The ways from a user's source to rows: files and memory, the shapes that rows have, chats, labels, and own parts.

`promptreach.tables.read_task` is the front door.
"""
