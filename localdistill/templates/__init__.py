"""Chat templates: render them safely, and take thinking apart and together again.

Training, evaluation and export use this one place, so that they agree on where reasoning starts and ends.
"""

from localdistill.templates.chat import ChatTemplate
from localdistill.templates.replies import reply_of_text, status_of
from localdistill.templates.thinking import Split, join_thinking, opens_thinking_tag, split_thinking

__all__ = [
    "ChatTemplate", "Split", "join_thinking", "opens_thinking_tag", "reply_of_text", "split_thinking", "status_of",
]
