"""The demo's rules of thumb for English: what sentences state or ask, and which lines fit a question."""

import math
import re
from collections.abc import Iterable

MOST_QUOTES = 3
# The share of a question's meaning that a line must hold to be quoted, and to be quoted with confidence.
UNSURE = 0.2
SURE = 0.5
# What counts against a line: a word that was not asked for, and one in its subject.
EXTRA_WORD = 0.02
OTHER_SUBJECT = 0.25

_END = re.compile("([.!?\u2026]+)[\"'\u201d\u2019)]*\\s+|\n+")
_ABBREVIATION = re.compile(r"(?:\b(?:st|dr|mr|mrs|ms|prof|jr|sr|no|vs|etc|mt|ft)|\b\w)$", re.IGNORECASE)
_OPENING = re.compile(
    r"(?:hi|hello|hey|greetings|good (?:morning|evening|afternoon)|well|so|ok|okay|oh|also|and|but|actually"
    r"|please|by the way|btw|fyi|for the record|just so you know|there|yes|no|sure|thanks|thank you)\b"
    r"[\s,.!:;-]*",
    re.IGNORECASE,
)
_REMEMBER = re.compile(
    r"(?:(?:can|could|would|will) you |i(?: would|'d) like you to |i want you to )?(?:please )?"
    r"(?:remember|note|memori[sz]e|keep in mind|don't forget|do not forget|make a note|write down|save|store)"
    r"(?: of)?(?: (?:that|this|it|down))*[\s:,]+(?P<fact>\S.*)",
    re.IGNORECASE,
)
_QUESTION = re.compile(
    r"(?:what|who|whom|whose|where|when|why|which|how|do|does|did|is|are|am|was|were|can|could|will|would|should"
    r"|have|has|had|may|tell me|remind me|list|show me|name the|give me|what's|who's|where's|when's|how's"
    r"|i (?:want|need|would like|wonder|'d like)(?: to know)?|i'd like to know)\b",
    re.IGNORECASE,
)
_REQUEST = re.compile(
    r"i(?:'d| would)? (?:want|need|like|wish|ask(?:ed)?|mean|meant|guess|see|understand|wonder)"
    r"(?: (?:you|your|to know|help|what|who|where|when|why|how|if|whether|so|not)\b|$)"
    r"|i (?:don't|do not) (?:know|understand|remember)\b|i have (?:a|one|another) question\b",
    re.IGNORECASE,
)
_FIRST_PERSON = re.compile(
    r"(?:i|i'm|i've|i'd|i'll|my|mine|we|we're|we've|our|you (?:can|may|should) call me|call me"
    r"|(?:people|everyone|everybody|friends|my friends) calls? me)\b.*\w",
    re.IGNORECASE,
)
_VERB = (
    r" (?:is|are|was|were|has|have|had|likes?|loves?|hates?|enjoys?|prefers?|lives?|works?|plays?|owns?"
    r"|speaks?|studies|means|costs?|starts?|begins?|ends?|will|drives?|wants?|needs?|eats?|drinks?|bought"
    r"|moved|grew|got|went|married|born|called|named|collects?|teaches|keeps?|wears?|runs?|comes|goes)\b"
)
_DECLARATIVE = re.compile(
    r"(?!(?:this|that|it|you|your|there|these|those|here|thanks?|nothing|everything|something)\b)"
    rf"(?P<subject>\S+(?: \S+){{0,8}}?){_VERB} .*\w",
    re.IGNORECASE,
)
_OF_ME = re.compile(r"(?:i|i'm|i've|we|we're|we've) \w", re.IGNORECASE)
# What begins a sentence, also after what looks like an initial.
_START = re.compile(
    r"(?:what|who|where|when|which|how|why|do|does|did|is|are|can|could|i|my|we|our|the|please)\b",
    re.IGNORECASE,
)


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text; a period after an initial or a title ends none."""
    sentences: list[str] = []
    start = 0
    for end in _END.finditer(text):
        abbreviated = end[1] == "." and _ABBREVIATION.search(text[start : end.start()])
        if abbreviated and not _START.match(text, end.end()):
            continue
        sentences.append(text[start : end.end()])
        start = end.end()
    sentences.append(text[start:])
    return [" ".join(sentence.split()) for sentence in sentences if sentence.strip()]


def stated_fact(sentence: str) -> str | None:
    """Return what a sentence states and is worth keeping, in its own words, or `None`."""
    plain = _plain(sentence)
    if asked := _REMEMBER.fullmatch(plain):
        fact = asked["fact"]
        whole = fact.rstrip("? ")
        if not plain.endswith("?") or _DECLARATIVE.fullmatch(whole) or _OF_ME.match(whole):
            return _sentence_case(whole)
    if plain.endswith("?") or not _states(plain):
        return None
    return _sentence_case(plain)


def is_question(sentence: str) -> bool:
    """Say whether a sentence asks for something."""
    plain = _plain(sentence)
    if stated_fact(sentence) is not None:
        return False
    return plain.endswith("?") or _QUESTION.match(plain) is not None


def _plain(sentence: str) -> str:
    plain = sentence.replace("\u2019", "'").strip().strip('"“”')
    while (opening := _OPENING.match(plain)) and opening.end() < len(plain):
        plain = plain[opening.end() :]
    return plain


def _states(plain: str) -> bool:
    if _REQUEST.match(plain):
        return False
    if _FIRST_PERSON.fullmatch(plain.rstrip(".! ")) and len(plain.split()) > 1:
        return True
    return _QUESTION.match(plain) is None and _DECLARATIVE.fullmatch(plain.rstrip(".! ")) is not None


def _sentence_case(fact: str) -> str:
    return fact[:1].upper() + fact[1:]


# --- words ----------------------------------------------------------------------------------

_STOP_TEXT = """
a an the is are was were be been being am do does did doing done have has had having i you he she it we
they me my mine your yours our ours their his her him its them us myself of in on at to for with about
and or but so that this these those what which who whom whose where when why how can could will would
should may might shall tell know knows remember remind say says said told please there here just really
very some any much many also as by if then than too again ever not no yes don't doesn't didn't isn't i'm
i've i'd what's who's where's when's how's it's that's kind sort type thing things anything something
mention mentioned ask asked question recall exactly one s t re ve ll d m up out
"""
_STOP = frozenset(_STOP_TEXT.split())
_IRREGULAR_TEXT = """
grew grow, bought buy, went go, drove drive, ate eat, drank drink, met meet, taught teach, wrote write,
spoke speak, children child, kids kid, wives wife, studies study, studied study, mice mouse, feet foot,
flew fly, ran run, kept keep, left leave, lost lose, sang sing, swam swim, won win, wore wear, people
person, men man, women woman
"""
_IRREGULAR = {pair.split()[0]: pair.split()[1] for pair in _IRREGULAR_TEXT.split(",")}
# Words that say the same, one group a line.
_SYNONYMS = """
live reside home city town address country house apartment located stay
work job profession occupation employer company career employ office
name call nickname
like love enjoy favourite favorite prefer fond hobby fan adore
hate dislike detest loathe
born birthday birth birthdate
old age year
wife husband spouse partner marry married
kid child
allergic allergy
study university college school degree major student
drive car vehicle
eat food dish meal cuisine cook
drink beverage
phone number mobile telephone
email mail
colour color
speak language
play instrument sport game
read book novel author
mother mum mom
father dad
from origin native nationality come
holiday vacation travel trip visit
film movie
doctor physician
tall height
"""
# A general word that a question may use for particular ones.
_PETS = """
dog puppy cat kitten parrot budgie canary cockatiel hamster gerbil rabbit horse pony goldfish fish
tortoise turtle ferret iguana snake gecko lizard rat mouse chinchilla hedgehog axolotl tarantula llama
alpaca goat chicken duck bird
"""
_KINDS_TEXT = {
    "pet": _PETS,
    "animal": _PETS,
    "sibling": "brother sister",
    "parent": "mother father mum mom dad",
    "child": "son daughter",
    "kid": "son daughter",
    "drink": "tea coffee wine beer juice",
}
_PHRASES = ((re.compile(r"\bfor a living\b|\bdo for work\b"), "job"), (re.compile(r"\bwho am i\b"), "name"))
_IMPLIED = (
    (re.compile(r"\bi(?: am|'m) (?:an? |the )(?!fan\b)\w+"), "job"),
    (re.compile(r"\bi(?: am|'m) \d{1,3}\b(?! (?:cm|kg|m)\b)"), "age"),
)


def best_matches(question: str, lines: Iterable[str]) -> tuple[list[str], bool]:
    """Return the lines that answer best (at most 3, the best first), and whether they fit well.

    A line is worth the share of the question's words that it holds, rare words counting more; a
    synonym counts less than the word. Among equals the line without further words is best, most of all
    without further words in its subject: "my sister's name" is no answer to "my name".
    """
    candidates = {key(line): (line, _words(line)) for line in lines}
    asked = _words(question)
    if not asked or not candidates:
        return [], False
    total = len(candidates)
    weights = {
        word: math.log(1 + total / (0.5 + sum(_match(word, words) > 0 for _, words in candidates.values())))
        for word in asked
    }
    ranked: list[tuple[float, float, str]] = []
    for line, words in candidates.values():
        share = sum(weights[word] * _match(word, words) for word in asked) / sum(weights.values())
        foreign = sum(not _match(word, asked) for word in _subject(line))
        ranked.append((share - EXTRA_WORD * len(words - asked) - OTHER_SUBJECT * foreign, share, line))
    ranked.sort(reverse=True)
    best, share, _ = ranked[0]
    if share < UNSURE:
        return [], False
    chosen = [line for rank, share, line in ranked if rank >= 0.8 * best and share >= UNSURE]
    return chosen[:MOST_QUOTES] or [ranked[0][2]], share >= SURE


def _match(word: str, words: frozenset[str]) -> float:
    if word in words:
        return 1.0
    if not words.isdisjoint(_KINDS.get(word, ())):
        return 0.7
    group = _GROUP.get(word)
    return 0.7 if group is not None and any(_GROUP.get(other) == group for other in words) else 0.0


def _subject(line: str) -> frozenset[str]:
    """Return the words of whom or what a line is about; a line about the speaker has none."""
    found = _DECLARATIVE.fullmatch(_plain(line).rstrip(".! "))
    return _words(found["subject"]) if found else frozenset()


def _words(text: str) -> frozenset[str]:
    lowered = text.lower().replace("\u2019", "'")
    implied = {word for pattern, word in _IMPLIED if pattern.search(lowered)}
    for pattern, word in _PHRASES:
        lowered = pattern.sub(word, lowered)
    return frozenset(map(_stem, meaningful_words(lowered))) | frozenset(map(_stem, implied))


def meaningful_words(text: str) -> list[str]:
    """Return the words that carry meaning, as they are written but for case and possessives."""
    found = re.findall(r"\w+(?:['-]\w+)*", text.lower().replace("\u2019", "'"))
    return [bare for word in found if (bare := word.removesuffix("'s")) not in _STOP]


def _stem(word: str) -> str:
    """Return what the forms of a word have in common; it need not be a word itself."""
    word = _IRREGULAR.get(word, word)
    for suffix, least in (("ing", 6), ("ied", 5), ("ies", 5), ("ed", 5), ("es", 5), ("s", 4)):
        if word.endswith(suffix) and len(word) >= least and not word.endswith("ss"):
            word = word.removesuffix(suffix) + ("i" if suffix in ("ied", "ies") else "")
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiousl":
        word = word[:-1]
    if len(word) > 3 and word[-1] in "ey":
        word = word[:-1] + ("i" if word[-1] == "y" else "")
    return word


_GROUP = {
    _stem(word): number for number, group in enumerate(_SYNONYMS.splitlines()) for word in group.split()
}
_KINDS = {_stem(kind): frozenset(map(_stem, words.split())) for kind, words in _KINDS_TEXT.items()}


def key(line: str) -> str:
    """Return what two lines have in common that say the same in the same words."""
    return " ".join(re.findall(r"\w+", line.lower()))
