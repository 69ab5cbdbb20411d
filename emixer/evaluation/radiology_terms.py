"""Vocabulary of chest radiology: how reports name each label, and how they negate and hedge.

Patterns of lower-case tokens joined by single spaces, one alternative per line. Phrases are the common ones of the
CheXpert and NIH vocabularies; which phrases belong to a label is a convention, defined only here.
"""

import re

NO_FINDING = "No Finding"

_EFFUSION = r"""
    (?<!pericardial )effusions?
    pleural fluid
    (trace|small|tiny|minimal) ((amounts?|quantit(y|ies)|volumes?) of )?fluid(?! (overload|status|levels?))
    hydrothorax
    hydropneumothora(x|ces)"""
_MASS = r"""
    mass(es)?
    tumou?rs?
    neoplasms?
    malignanc(y|ies)
    metasta(sis|ses|tic disease)"""
_NODULE = r"""
    nodul(es?|arity)
    nodular (opacit(y|ies)|densit(y|ies)|lesions?)"""
_THICKENING = r"""
    (pleural|pleuro-?parenchymal|fissural) (\S+ ){0,2}?thickening
    apical (cap\w*|thickening)
    pleural plaques?
    fibrothorax"""

TERMS: dict[str, str] = {
    "Atelectasis": r"""
        atelecta(sis|ses|tic)
        (lobar|lung|lobe) collapse
        volume loss""",
    "Cardiomegaly": r"""
        cardiomegaly
        cardiac enlargement
        enlarge(d|ment)( of)?( the)? (heart|cardiac|cardio\S*)
        (heart|cardiac|cardio\S*)( (?!normal|not|no|without|but)\S+){0,6} (enlarged|large|prominent)""",
    "Consolidation": r"""
        consolidat(ions?|ive)""",
    "Edema": r"""
        (?<!tissue )o?edema
        (pulmonary|vascular) (\S+ )?congestion
        (heart|cardiac) failure
        chf
        kerley
        cephalization""",
    "Enlarged Cardiomediastinum": r"""
        (widen\w*|enlarge\w*|prominen\w*)( of)?( the)?( \S+)? \w*mediastin\w+
        \w*mediastin\w+( (?!normal|not|no|without|but)\S+){0,5} (widen\w*|enlarge\w*|prominen\w*)""",
    "Fracture": r"""
        fractur(es?|ed)""",
    "Lung Lesion": rf"""{_MASS}{_NODULE}
        (lung|pulmonary|cavitary) lesions?""",
    "Lung Opacity": r"""
        opaci(ty|ties|fications?|fied)
        infiltrat(es?|ions?)
        airspace(?! consolidation)
        air-space (disease|process)
        interstitial markings
        densit(y|ies)
        reticula(tion|r)\S*""",
    "Pleural Effusion": _EFFUSION,
    "Pleural Other": rf"""{_THICKENING}
        pleural (scar\w*|lesions?|disease|calcifications?|abnormalit\w+)""",
    "Pneumonia": r"""
        (broncho)?pneumonias?
        (infectious|infective) (process|infiltrate)(es|s)?
        (?<!granulomatous )(?<!tuberculous )(?<!tuberculosis )infections?""",
    "Pneumothorax": r"""
        (hydro)?pneumothora(x|ces)
        ptx""",
    "Support Devices": r"""
        pace(makers?|r)
        defibrillators?
        a?icd
        catheters?
        tubes?
        picc
        (central|venous|jugular|subclavian|ij|arterial) lines?
        lines?(?= (tips?|terminat\w+|ends?|is in place))
        port-?a-?cath\S*
        mediport
        (chest|infusion) ports?
        (sternotomy|sternal) wires
        leads?
        stents?
        (prosthetic|mechanical|\S+ valve) valve
        valve prosthes\w+
        devices?
        drains?""",
    "Effusion": _EFFUSION,
    "Infiltration": r"""
        infiltrat(es?|ions?)""",
    "Mass": _MASS,
    "Nodule": _NODULE,
    "Emphysema": r"""
        (?<!subcutaneous )emphysema\w*
        bull(ous|ae)
        blebs?
        copd
        chronic obstructive pulmonary disease""",
    "Fibrosis": r"""
        fibrosis
        fibrotic (changes?|scar\w*|disease)
        interstitial lung disease""",
    "Pleural_Thickening": _THICKENING,
    "Hernia": r"""
        hernia(s|ted|tion)?""",
}
"""Terms of each label."""

_NORMAL = r"(normal|unremarkable|within normal limits|not enlarged|not widened|preserved)"
_NOT_BEFORE_NORMAL = r"(upper limits?|top|borderline|high|mildly|slightly|prominent|enlarged|but|with|except|lungs?)"

NORMAL_STATEMENTS: dict[str, str] = {
    "Cardiomegaly": rf"""
        (heart|cardiac|cardio\S*)\b( (?!{_NOT_BEFORE_NORMAL}\b)[^ ;]+){{0,9}}? {_NORMAL}(?! except)
        normal( \S+)? (heart|cardiac|cardio\S*)(?! except)""",
    "Enlarged Cardiomediastinum": rf"""
        \w*mediastin\w+\b( (?!{_NOT_BEFORE_NORMAL}\b)[^ ;]+){{0,9}}? {_NORMAL}(?! except)
        normal( \S+){{0,4}} \w*mediastin\w+(?! except)""",
    "Fracture": rf"""
        (osseous|bony|skeletal) structures( \S+){{0,3}} ({_NORMAL}|intact)
        (bones|ribs|bony thorax)( \S+){{0,3}} ({_NORMAL}|intact)""",
}
"""Statements that negate a label without naming it."""

BORDERLINE_STATEMENTS: dict[str, str] = {
    "Cardiomegaly": r"""
        (heart|cardiac|cardio\S*)\b( (?!but\b)[^ ;]+){0,6}? (upper limits?|top|borderline|high)
        (upper limits?|top|high)[ -]normal( \S+)? (heart|cardiac)
        borderline (cardiomegaly|heart|cardiac|enlarge\w+)""",
}
"""Statements that make a label uncertain."""

_FIRM_VERB = r"(is|are|was|were|has|have|had|can|could)( been| also| now| clearly| currently)?"
_NOT = r"(not|isn't|aren't|wasn't|weren't|hasn't|haven't)"
_SEEN = r"(seen|identified|visualized|evident|present|noted|appreciated|demonstrated|detected|apparent|there)"
_EARLIER = (
    r"(before|previously|earlier|yesterday"
    r"|(on|in|at) (the |a )?(prior|previous|earlier|preceding|old|last|comparison)( \S+)?"
    r"|(on|in|at) the (study|film|radiograph|exam\S*) (of|from))"
)
_EXCLUDED = r"(be |been )?(\S+ly )?(excluded?|ruled? out)"
_HEDGES = r"(likely|probabl[ey]|possibl[ey]|presum\S+)"

CLAUSE_END_BEFORE_TERM = rf"""
    but|however|although|though|except|aside|apart|despite|while|whereas
    there|(?<!excluded )(?<!ruled out )(is|are|was|were)|has|have|shows|demonstrates|now|which
    (?<!history )(?<!hx )(?<!removed )(?<!withdrawn )(?<!discontinued )(?<!absent )(?<!excluded )(?<!negative for )[;:]
    (?<!consistent )(?<!compatible )(?<!associated )with
    ,(?= (and )?{_HEDGES} )
    , (and )?((a|an|the) )?(small|mild|moderate|minimal|stable|unchanged|persistent|new|worsening)
    , (and )?((a|an|the) )?(left|right|bilateral)"""
CLAUSE_END_AFTER_TERM = r"""
    but|however|although|though|except|while|whereas|there|with|;|after|since|following|because|when|where"""
HISTORY = r"""
    (history|hx) (of|for|:)
    h / o
    history"""
"""Terms after it are not findings of this image."""
CONFIRMED_HISTORY = r"""
    (consistent|compatible|keeping|accordance) with( \S+){0,3}? (history|hx)( (of|for))?( known)?"""
"""Exceptions: terms after these are findings."""
_MUCH = r"( (significant|interval|definite|appreciable|substantial|great(ly)?|much|other|further))*"
_CHANGED = (
    r"((in|de)creased?|(un)?changed|resolved|cleared|improved|worsened|progressed|enlarged|larger?|bigger|new|moved|removed"
    r"|different|(well|optimally|properly|ideally) (position|place)\S*)"
)
NO_CHANGE = rf"""
    (no|not|without){_MUCH} (changes?|(in|de)creased?|changed|difference|improvement)( (in|of|from|since|to))?
    (no|not) (longer|only)
    not (yet )?(been )?(removed|withdrawn|discontinued)"""
STILL_THERE = rf"""
    {_NOT} (been )?(\S+ly )?(yet )?(been )?{_CHANGED}
    {_NOT} (previously|formerly) (been )?{_SEEN}
    {_NOT} (been )?(\S+ly )?{_SEEN}( \S+)?? {_EARLIER}
    (absent|not there) {_EARLIER}
    (which|that) (was|were|is|are) (\S+ly )?{_SEEN} {_EARLIER}
    no longer (enlarging|growing|increasing|new)"""
"""After a term, these describe a change or an earlier image and do not negate the finding in this one."""
UNDECIDED = rf"""
    (cannot|can not|can't|could not|couldn't|not|nor)( \S+){{0,3}}? {_EXCLUDED}
    (unable|difficult|hard|impossible) to (\S+ly )?(exclude|rule out)"""
NEGATION_BEFORE_TERM = r"""
    no|not|nothing|without|never|nor|neither|denies
    negative for
    (free|absence|lack|clear|clearing|resolution) of
    absent|resolved
    (rules|ruled|ruling) out
    excludes|excluded|excluding"""
NEGATION_AFTER_TERM = rf"""
    {_FIRM_VERB} (not|no longer|unlikely|absent|excluded|ruled out|resolved|cleared|gone)
    ({_NOT}|no longer) {_SEEN}
    (has|have) (completely |largely )?(resolved|cleared)
    unlikely|resolved"""
_PLURAL_OR_PAIR = r"(\( (s|es) \) )?((/|and|or|&) (\S+ ){1,2}?)?"
ANSWERED_NO = rf"""
    {_PLURAL_OR_PAIR}[:=-] (none|absent|negative|nil|{_NOT} {_SEEN})
    {_PLURAL_OR_PAIR}[:=-] no(?= ([,;/]|$))
    none(?= ([,;/]|$))"""
"""Negative answer of a form, directly after the term."""
DEVICE_GONE_BEFORE = r"""
    (removal|explantation|withdrawal|discontinuation|extubation) of
    (removed|withdrew|withdrawn|discontinued|extubated|explanted)"""
DEVICE_GONE_AFTER = r"""
    (removed|withdrawn|discontinued|pulled|explanted|taken out)
    removal"""
DEVICE_STAYS = rf"""
    {_NOT} (\S+ ){{0,2}}?(removed|withdrawn|discontinued|pulled|explanted|taken out)
    (be|being) (removed|withdrawn|discontinued|pulled)
    (partially|partly) (removed|withdrawn|pulled)
    withdrawn (by|to|slightly|a)
    pulled back"""
DOUBT_BEFORE_TERM = r"""
    \?
    may|might|could|perhaps|cannot|if|either
    possib(le|ly|ility)|probabl[ey]|potential(ly)?|presum\S+
    likely(?! (chronic|old|healed|remote|acute|subacute|longstanding|benign))
    (thought|felt|believed) to
    favo(u?)r(s|ed|ing)?(?! \S+ of)
    question(abl[ey])?|equivocal|borderline
    suspect(ed)?|suspicious|suspicion|concern(ing)?|worrisome
    suggest(s|ed|ing|ive|ion)?
    versus|vs\.?|differential\S*
    rule out|r / o|to exclude|to assess|consider
    correlat\S+|recommend\S*|evaluate|assess"""
DOUBT_AFTER_TERM = rf"""
    ((is|are|was|were|has|have|remains?) (\S+ )?)?(possible|questioned|suspected|questionable)
    ((is|are|was|were) )?((less|more|most|also|still|thought) )likely
    (is|are|was|were|remains?|seems?) likely(?= ([,(]|given|in|as|based|$))
    ((has|have|is|are|was|were|can|could|may|might) )?not (able to |possible to )?{_EXCLUDED}
    (can ?not|can't|couldn't|could not) be (\S+ly )?(excluded|ruled out)
    (is|are|remains?) (also )?(in the differential|a (possibility|consideration|concern|question)|considered|of concern)
    (should|could|may|might|must) (also )?be (considered|present|excluded|ruled out|missed|there|hidden)
    (may|might|could) (also )?(exist|remain|persist)
    (is|are) (doubtful|uncertain)
    , if (present|any)
    (needs?|has|have) to be (considered|excluded|ruled out)
    ((is|are|was|were|remains?) )?(difficult|hard|impossible) to (\S+ )?(exclude|rule out)
    versus|vs\.?
    \?(?= $)"""
_ALTHOUGH_ONE = (
    r"(although|though|however|but|yet)( \S+){0,4}? (one|ones|it|they|some|trace|amounts?) (\S+ ){0,4}?"
    r"(may|might|could|can ?not|can't|not) (be |been )?(\S+ly )?(be |been )?"
)
LEFT_OPEN = rf"""
    {_ALTHOUGH_ONE}(present|missed|hidden|there|obscured|seen|exist|remain|persist)
    {_ALTHOUGH_ONE}(excluded|ruled out)"""
"""Retracts a negation without naming the finding again."""


def alternatives(lines: str) -> str:
    """Join the lines of a pattern into one group of alternatives."""
    return "(" + "|".join(line.strip() for line in lines.splitlines() if line.strip()) + ")"


def whole_words(lines: str) -> re.Pattern[str]:
    """Compile a pattern that matches any line between spaces, which are not consumed, so that neighbours share them."""
    return re.compile(rf"(?<= ){alternatives(lines)}(?= )")
