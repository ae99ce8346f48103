"""Rendering: the words of a message, made from a template of ours and plain values, never from anything else.

A template declares each field it uses with one of three needs:

- ``required``: without it the message makes no sense. ``Library.render`` answers with a ``RenderProblem``, and
  the caller sends the notice instead.
- ``optional``: its words are left out where the field is not there; a template may show it only inside
  ``{% if field is defined %}``, which is checked when the templates are loaded.
- ``marked``: as ``optional``, but where the caller passes no such field at all, because it may not be shown on
  this channel, ``[see portal]`` stands in its place. An empty string says that there is nothing to show.

The caller passes only fields that the channel may carry. A template is never given a field that it does not
declare, and what it is given holds no control, bidirectional or invisible characters and is never read as
template text.
"""

from __future__ import annotations

from ordernotify.rendering.library import Library, shipped
from ordernotify.rendering.results import Facts, ProblemCode, Rendered, RenderProblem
from ordernotify.rendering.tree import Problem, TemplateError

__all__ = ["Facts", "Library", "Problem", "ProblemCode", "RenderProblem", "Rendered", "TemplateError", "shipped"]
