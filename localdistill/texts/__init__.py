"""What can be measured of plain text: its sentences, words, language, repetitions. Knows nothing of prompts
or traces."""
