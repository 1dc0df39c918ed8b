"""How the tasks of the mixture are asked for.

The words of the pipeline's instruction and template (`configs/config.yaml`) are left to it: no
request speaks of captions, images or pictures, and none of generating or of being concise.
"""

SIMILAR = (
    "Several people were at much the same spot. Tell what there was.",
    "These reports belong together. Make one of them.",
    "Reports disagree. What did most of them see?",
    "Boil these lines down to one.",
    "Sum up the lines.",
    "One line for all of these.",
    "What do the witnesses agree on?",
    "Condense the reports.",
)
SAME_WAY = (
    "Keep to the way these are put.",
    "In the manner of the lines.",
    "Follow the pattern of the lines.",
    "Sound like them.",
)
IMITATE = (
    "Follow the pattern.",
    "Go by the examples.",
    "Put the text the way the examples are put.",
    "Imitate the manner of the examples.",
    "Here is how to put things. Put this so, too.",
)
EXAMPLES_AND_TEXT = (
    "Examples:\n{0}\n\nText: {1}",
    "Examples:\n{0}\nNow: {1}",
    "{0}\n\nTo be put so: {1}",
    "Text: {1}\n\nExamples:\n{0}",
    "How to put it:\n{0}\nWhat to put: {1}",
)
COMMON_THING = (
    "What are most of these lines about?",
    "Name the thing that occurs most.",
    "In one or two words: what did most witnesses see?",
)
COMMON_PLACE = (
    "Where do most of these lines take place?",
    "Name the location that occurs most.",
    "In one or two words: where were most witnesses?",
)
RESTORE = (
    "These are copies of one line, with mistakes. Restore it.",
    "Each copy has mistakes, most are right at every word. What did the line say?",
    "Correct the copies: give back the original.",
    "Which line were they copied from?",
    "Word by word, what do most of them have?",
)
PARAPHRASE = (
    "Say this in other words.",
    "Rewrite the sentence.",
    "Rephrase.",
    "Tell the same again.",
    "Put it differently.",
    "Change the style of this text.",
)
COMBINE = (
    "Combine these into one.",
    "Both tell of one scene. Join them.",
    "Merge the two sentences.",
    "Make one sentence of the two.",
    "Bring the facts together.",
)
KEYWORDS = (
    "Write a sentence with these words.",
    "Turn the notes into prose.",
    "Write about a scene with all of this.",
    "Make a sentence from the keywords.",
    "Use these facts.",
)
LIST = (
    "List the objects.",
    "Which things are named?",
    "Name what is there, separated by commas.",
    "Give only the objects.",
)
QUESTION = (
    "{}",
    "Answer the question: {}",
    "Read and answer. {}",
    "Question: {}",
)
SELECT = (
    "Repeat the {} line.",
    "Copy the {} sentence.",
    "Give back the {} one, word for word.",
    "Quote the {} line.",
)
SELECT_BY_WORD = (
    "Repeat the line with the word {}.",
    "Copy the sentence that has {} in it.",
    "Quote the line in which {} occurs.",
    "Which line contains {}?",
)
REPLACE = ("Write {1} instead of {0}.", "Replace {0} by {1}.", "Swap {0} for {1}.")
STOP_AFTER = ("Stop after {0}.", "Copy as far as {0}.", "Cut off what follows {0}.")
BEGIN_AT = ("Begin at {0}.", "Copy from {0} on.", "Drop what stands before {0}.")
INSERT = ("Insert {1} after {0}.", "Put {1} behind {0}.", "Add {1} right after {0}.")
SPLICE = (
    "Copy the first line up to {0}, then the second from {1} on.",
    "Start with the first line, and change at {0} to the second at {1}.",
    "From the first line until {0}; from the second after that, beginning at {1}.",
)
