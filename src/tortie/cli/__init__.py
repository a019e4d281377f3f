"""The command ``tortie``: reads arguments, calls what is below, prints.

`main` is the frame; each command is a module with a click command named ``command``, imported when it is asked for. Nothing
here computes what others could want: that stands in the floors below. What is heavy is imported late, so that ``tortie --help``
stays quick.
"""
