"""Splits one word of a caption, with the marks around it, into the tokens of COCO's evaluation.

Stanford's PTBTokenizer 3.4.1, the Java program that pycocoevalcap runs, is a lexer: of all rules
that match at a position the longest match wins, and the first of equally long ones. Some rules
look at what follows; that counts for the length, and is left for the next token. `RULES` is such a
list, for what captions and noisy model outputs contain: what that program does, as its grammar file
(which abbreviations it has, which words begin a sentence), its documents and its output show.
benchmarks/compare_with_pycocoevalcap.py compares the tokens with Java's.

A few rules distinguish capitals from small letters ("AT&T", "Wash."), so tokens are lower-cased,
not the text. Characters that no rule matches are dropped, as emoji are: Java knows the basic plane
only.
"""

import re
from functools import lru_cache
from typing import NamedTuple

# Python's word characters have figures such as "½", "²" and "Ⅳ" among them; ignoring case, the
# Kelvin sign of the range would take the k with it.
_LETTER = (
    r"(?:(?-i:[^\W\d_\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u2bff\U00010000-\U0010ffff])"
    r"|[\u00ad\u0300-\u036f])"
)
_ALNUM = rf"(?:{_LETTER}|\d)"
_APOSTROPHE = r"['\u0092\u2019]"
_ANY_APOSTROPHE = r"['`\u0091\u0092\u2018\u2019\u201b]"
_HYPHEN = r"[-_\u058a\u2010\u2011]"
_ELISION = rf"(?:[dol]{_ANY_APOSTROPHE}(?={_ALNUM}))?"  # d'Artagnan
_INITIALS = r"(?:[a-z](?:\.[a-z])+|(?:canada|sino|korean|eu|japan|non)-u\.s|u\.s\.-u\.k)"
_WORD = rf"{_LETTER}{_ALNUM}*(?:[.!?]{_LETTER}{_ALNUM}*)*"  # A stop without a space: dog.cat
_HYPHENATED = rf"[a-z0-9][a-z0-9.,\u00ad]*(?:-(?:{_INITIALS}\.|[a-z0-9\u00ad]+))+"
_COMPOUND = rf"{_ELISION}{_ALNUM}+(?:{_HYPHEN}{_ELISION}{_ALNUM}+)*"
_CAPITALS = r"(?-i:[A-Z]+(?:[+&][A-Z]+)+)"
_CHOICE = "[a-z0-9]+(?:-[a-z]+){0,2}"
_PAUSE, _END = "[,;:]", "(?: |$)"

# Abbreviations keep their full stop: those of the first five lists always, words that are one with
# a capital ("in the wash.", "Wash."), and those before a figure ("a sign reads no.", "No. 5").
_CALENDAR = "jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thu(?:rs)?|fri"
_STATES = (
    "ala|ariz|calif|colo|conn|ct|dak|fla|ga|ind|kans?|ky|md|mich|minn|mo|mont|neb|nev|okla|penn|"
    "tenn|va|vt|wisc?|wyo"
)
_TITLES = (
    "adj|adm|adv|asst|assoc|attys?|brig|capt|col|co?mdr|cpl|det|drs?|ens|esq|gen|govs?|hon|insp|jr|"
    "lieut|lt|maj|messrs|mlle|mme|mrs?|ms|msgr|pfc|pres|profs?|pvt|reps?|rev|sens?|sfc|sgt|spc|sr|"
    r"supts?|ed\.d|ph\.d"
)
_COMPANIES = (
    "assn|bancorp|bhd|bros|cie|corp|cos?|dept|elec|inc|intl|invt|ltd|m[ft]g|natl|plc|pp?t[ye]s?|rt|"
    "sys|univ"
)
_OTHERS = (
    r"a\.k\.a|al|alex|ave|bldg|blvd|cf|est|etc|ext|ft|jos|mt|ph|rd|seq|sq|ste?|tel|treas|vs|wm"
)
_CAPITALIZED = "az|ark|del|ill|la|mass|miss|ore|pa|tex|wash"
_NUMBERED = "arts?|ca|figs?|nos?|op|pp|prop"
_ABBREVIATION = "|".join([_CALENDAR, _STATES, _TITLES, _COMPANIES, _OTHERS])


class Rule(NamedTuple):
    """A rule of the lexer.

    Attributes:
        token: Regular expression of the token.
        context: Of what must follow; it counts for the length of the match.
        plain: Whether typographic quotes in the token become plain ones.
    """

    token: str
    context: str = ""
    plain: bool = False


# A sentence begins with one of these after an initial: "the letter A. The man", but "A. Smith".
_BEGINNINGS = (
    "about|according|additionally|after|an?|as|at|but|earlier|he|her|here|however|if|in|it|last|many|"
    r"more|mr\.|ms\.|now|once|one|other|our|she|since|so|some|such|that|the|their|then|there|these|"
    "they|this|we|when|while|what|yet|you"
)


def _with_capital(words: str) -> str:
    """Returns a pattern of words whose first letter is a capital, whatever the others are."""
    return "|".join(f"(?-i:{word[0].upper()}){word[1:]}" for word in words.split("|"))


# In the order of their precedence. "$" is the end of the word or of the next one.
RULES = (
    Rule("can", "not"),
    Rule("gon|wan", "na"),
    Rule("got", "ta"),
    Rule("gim|lem", "me"),
    Rule(rf"{_APOSTROPHE}t", "(?:is|was)"),
    # Markup in one piece: "<unk>", "</s>".
    Rule(r"</?[a-z][\w:.-]*/?>|<[!?][a-z-][^>]*>"),
    # Clitics: dog's, do n't. An n belongs to the negation.
    Rule(_WORD, rf"{_APOSTROPHE}(?:[msd]|re|ve|ll)"),
    Rule(r"[a-z\u00ad]*[a-mo-z]\u00ad*", rf"n{_ANY_APOSTROPHE}t"),
    Rule(_WORD),
    # Words with an apostrophe of their own: 'em, ol', O'Malley, ma'am, '90s.
    Rule(
        rf"{_APOSTROPHE}(?:n{_APOSTROPHE}?|em|till?|cause|[2-9]0s)|(?:dunkin|somethin|ol){_APOSTROPHE}"
    ),
    Rule(rf"[ldj]{_APOSTROPHE}|(?-i:[A-HJ-XZn]){_ANY_APOSTROPHE}{_LETTER}{{2,}}"),
    Rule(rf"{_LETTER}+[aeiouy]{_ANY_APOSTROPHE}(?-i:[aeiouA-Z]){_LETTER}*"),
    Rule(
        r"cont'd\.?|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l|cap'n|c'est|c\.d\.s|pro-|anti-"
    ),
    Rule(rf"y{_APOSTROPHE}", _LETTER),
    # Addresses, names and topics of social networks.
    Rule(r"(?:https?://|www\.)\S*[\w/=#~]"),
    Rule(r"(?:[\w-]+\.)+(?:com|net|org|edu)(?:/\S*[\w/=#~])?"),
    Rule(r"[a-z0-9][^\s()<>|\"]{0,64}@[^\s()<>|\"]*[^\s()<>|\".]"),
    Rule(r"[@\uff20][a-z_][a-z0-9_]*|[#\uff03]" + _LETTER + r"\w*"),
    Rule(rf"{_APOSTROPHE}(?:[msd]|re|ve|ll)", r"[^a-z]|$", plain=True),
    Rule(rf"n{_ANY_APOSTROPHE}t", r"[^a-z]|$", plain=True),
    # Figures: dates, times, decimals, fractions; "5:54pm" is two tokens, "3pm" is one.
    Rule(r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}"),
    Rule(r"[-+]?(?:\d+(?:[.:,\u00ad]\d+)*|(?:[.:,]\d+)+)"),
    Rule(
        r"[\u207a\u207b\u208a\u208b]?(?:[\u2070\u00b2\u00b3\u00b9\u2074-\u2079]+|[\u2080-\u2089]+)"
    ),
    Rule(r"(?:\d{1,4}-)?\d{1,4}[/\u2044]\d{1,4}"),
    # Alternatives: and/or, w/o, black/white/red, at most three.
    Rule(rf"{_CHOICE}(?:/{_CHOICE}){{1,2}}"),
    Rule(r"(?-i:[A-Z]*)\$"),
    # Abbreviations: etc., U.S., initials.
    Rule(rf"(?:{_ABBREVIATION}|{_with_capital(_CAPITALIZED)}|{_INITIALS}|[a-z])\."),
    Rule(rf"(?:{_NUMBERED})\.", r" ?\d"),
    Rule("[a-z]", rf"\. (?:{_with_capital(_BEGINNINGS)})$"),
    Rule(rf"(?:{_CALENDAR}|{_STATES}|{_COMPANIES})\.", ".."),
    Rule(_INITIALS, _END),
    Rule(rf"{_APOSTROPHE}\d\d", _END),
    # A stop before a comma stays with its word.
    Rule(rf"{_WORD}\.", _PAUSE),
    # Marks, in runs where Java has them so, and faces.
    Rule(r"-+|\.{3,5}|[?!]+|@+|_+|#+|\*+|<<|>>|''"),
    Rule(r"[<>]?[:;=][-o*']?(?-i:[()DPdpO\\{@|\[\]])", r"[^a-z0-9]|$"),
    Rule(r"[-^x=~<>']_[-^x=~<>']"),
    Rule(rf"{_HYPHENATED}\.", _PAUSE),
    Rule(_HYPHENATED),
    Rule(rf"{_COMPOUND}\.", _PAUSE),
    Rule(_COMPOUND),
    Rule(rf"{_CAPITALS}\.", _PAUSE),
    Rule(_CAPITALS),
    # A plain apostrophe opens a quotation where a typographic one begins a clitic: 'more, ’more.
    Rule("'", r"[a-z]\S"),
    Rule(rf"{_APOSTROPHE}(?:[msd]|re|ve|ll)", plain=True),
    Rule(r"[\u0091-\u0094‘’“”‛‹›«»`]{1,2}", plain=True),
    Rule(
        r"[!-/:-@\[-`{-~\u0080\u0091-\u0094\u0096\u0097\u00a1-\u00a9\u00ab-\u00b4\u00b6-\u00b9"
        r"\u00bb-\u00bf\u00d7\u00f7\u2013-\u2023\u2026\u2030-\u203b\u203e-\u2042\u2044\u20ac\u2100-"
        r"\u214f\u2153-\u215e\u2190-\u2bff\u3001\u3002\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40"
        r"\uff5b-\uff65\uffe5]"
    ),
)
_PATTERNS = [
    (re.compile(f"({rule.token})(?:{rule.context})", re.IGNORECASE), rule.plain) for rule in RULES
]
_PLAIN_QUOTES = str.maketrans(
    dict.fromkeys("\u0091‘‛‹", "`")
    | dict.fromkeys("\u0092’›", "'")
    | dict.fromkeys("\u0093“«", "``")
    | dict.fromkeys("\u0094”»", "''")
)
# What Java writes for a token, and for a character of one.
_FORMS = {
    "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-", "½": "1/2", "¼": "1/4", "¾": "3/4",
    "⅓": "1/3", "⅔": "2/3", "€": "$", "¤": "$", "\u0080": "$", "£": "#", "¢": "cents",
    **dict.fromkeys(["---", "----", "\u0096", "\u0097", "–", "—", "―"], "--"),
    **dict.fromkeys(["....", ".....", "…"], "..."),
}  # fmt: skip
_LETTER_FORMS = str.maketrans({"(": "-lrb-", ")": "-rrb-", "\u00ad": ""})
# pycocoevalcap drops these after tokenizing (ptbtokenizer.py). Its "-LRB-" to "-RCB-" are not
# among them: the tokens are lower-cased by then, so brackets stay in.
_DROPPED = frozenset(["--", "...", "''", "``", *".?!,:;-\"'`"])


@lru_cache(maxsize=1 << 16)  # Few words have marks, and those few are often the same.
def split_word(word: str, following: str = "") -> tuple[str, ...]:
    """Returns the lower-cased tokens of a word, without the marks that COCO's evaluation drops.

    Args:
        word: What stands between two spaces.
        following: The next word, which decides whether "no." and initials keep their stop.
    """
    text = f"{word} {following}" if following else word
    tokens = []
    position = 0
    while position < len(word):
        matches = ((pattern.match(text, position), plain) for pattern, plain in _PATTERNS)
        longest, plain = max(matches, key=_length)
        if longest is None:
            position += 1
            continue
        position = longest.end(1)
        token = longest[1].translate(_PLAIN_QUOTES) if plain else longest[1]
        token = _FORMS.get(token) or token.lower().translate(_LETTER_FORMS)
        if token not in _DROPPED:
            tokens.append(token)
    return tuple(tokens)


def _length(match: tuple[re.Match[str] | None, bool]) -> int:
    return match[0].end() if match[0] else -1
