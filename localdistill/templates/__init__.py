"""Chat templates: render them safely, and take thinking apart and together again.

Training, evaluation and export use this one place, so that they agree on where reasoning starts and ends.
"""

from localdistill.templates.chat import MOST_TEMPLATE_CHARS, ChatTemplate, read_template
from localdistill.templates.replies import named_end, reply_of_text, status_of, status_of_end
from localdistill.templates.thinking import Split, join_thinking, opens_thinking_tag, split_beside, split_thinking

__all__ = [
    "MOST_TEMPLATE_CHARS", "ChatTemplate", "Split", "join_thinking", "named_end", "opens_thinking_tag",
    "read_template", "reply_of_text", "split_beside", "split_thinking", "status_of", "status_of_end",
]
