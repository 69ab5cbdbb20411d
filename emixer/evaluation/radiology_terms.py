"""Vocabulary of chest radiology: how reports name each label, and how they negate and hedge.

Patterns of lower-case tokens joined by single spaces, one alternative per line. Phrases are the common ones of the
CheXpert and NIH vocabularies; which phrases belong to a label is a convention, defined only here.
"""

import re

NO_FINDING = "No Finding"

_EFFUSION = r"""
    (?<!pericardial )effusions?
    pleural (and|or|/|and / or) pericardial effusions?
    pleural fluid
    (trace|small|tiny|minimal) ((amounts?|quantit(y|ies)|volumes?) of )?fluid(?! (overload|status|levels?))
    loculated (\S+ )?fluid
    fluid (in|within|along|tracking (in|into|along)) (\S+ ){0,3}?fissures?
    fissural fluid
    hydrothorax
    hydropneumothora(x|ces)"""
_MASS = r"""
    (?<!body )mass(es)?(?! effect)
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

# said of what stands before it, unlike the adjective of another noun ("a large effusion")
_OF_SUBJECT = r"(?= ([^\w\s]|_+|and|but|with\w*|in|on|at|for|due|given|as|than|since|when|which|compared|today|now|$))"
_NOT_OF_SUBJECT = r"(normal|not|no|without|but|with|aort\w+|arter\w+|hil(a|ar|um)|effusions?|hernias?|;)"

TERMS: dict[str, str] = {
    "Atelectasis": r"""
        atelecta(sis|ses|tic)
        (?<!vertebral )(?<!body )(?<!vertebra )(?<!\d )collaps(e|ed)(?! (of|in) (\S+ ){0,3}?(vertebra\w*|[tl]\d+))
        volume loss""",
    "Cardiomegaly": rf"""
        cardiomegaly
        cardiac enlargement
        enlarge(d|ment)( of)?( the)? (heart|cardiac|cardio\S*)
        (heart|cardiac|cardio\S*)( (?!{_NOT_OF_SUBJECT} )\S+){{0,6}} (enlarged|(large|prominent){_OF_SUBJECT})
        (heart|cardiac|cardio\S*)( silhouette)?( size)? (is|appears|remains)( \S+ly)? increased""",
    "Consolidation": r"""
        consolidat(ions?|ive)""",
    "Edema": r"""
        (?<!tissue )o?edema
        (pulmonary|vascular) (\S+ )?congestion
        (heart|cardiac) failure
        chf
        kerley
        cephalization""",
    "Enlarged Cardiomediastinum": rf"""
        (widen\w*|enlarge\w*|prominen\w*)( of)?( the)?( (?!and |or |but |with )\w\S*)? \w*mediastin\w+
        \w*mediastin\w+( (?!({_NOT_OF_SUBJECT}|heart|cardiac) )\S+){{0,5}} (widen\w*|enlargement|prominence)
        \w*mediastin\w+( (?!({_NOT_OF_SUBJECT}|heart|cardiac) )\S+){{0,5}} (enlarged|prominent){_OF_SUBJECT}""",
    "Fracture": r"""
        fractur(es?|ed)
        fx""",
    "Lung Lesion": rf"""{_MASS}{_NODULE}
        (lung|pulmonary|cavitary) lesions?""",
    "Lung Opacity": r"""
        opaci(ty|ties|fications?|fied)
        infiltrat(es?|ions?)
        airspace(?! consolidation)
        air[ -]space (disease|process)
        interstitial markings
        (?<!bone )(?<!bony )(?<!osseous )(?<!mineral )(?<!metallic )densit(y|ies)
        reticula(tion|r)\S*""",
    "Pleural Effusion": _EFFUSION,
    "Pleural Other": rf"""{_THICKENING}
        pleural (scar\w*|lesions?|disease|calcifications?|abnormalit\w+)""",
    "Pneumonia": r"""
        (broncho)?pneumonias?
        pna
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
        (central|venous|jugular|subclavian|ij|arterial) (lines?|sheaths?)
        ett|ngt|ogt|dob+hof+|swan-ganz|tracheostomy|iabp|balloon pump|cannulas?
        lines?(?= (tips?|terminat\w+|ends?|is in place))
        port-?a-?cath\S*
        mediport
        (chest|infusion|wall|subclavian|jugular|\S+-sided) ports?
        (sternotomy|sternal) wires
        leads?(?! to)
        stents?
        (prosthetic|mechanical) (\S+ )?valves?
        valve (prosthes\w+|replacements?)
        devices?
        drains?""",
    "Effusion": _EFFUSION,
    "Infiltration": r"""
        infiltrat(es?|ions?)""",
    "Mass": _MASS,
    "Nodule": _NODULE,
    "Emphysema": r"""
        (?<!subcutaneous )(?<!tissue )(?<!tissues )(?<!surgical )(?<!mediastinal )emphysema\w*
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

_NOT_LARGE = r"(not|no longer)( \S+ly| (appear|seem)( to be)?)* (enlarged|widened)"
_NORMAL = rf"(normal|unremarkable|within normal limits|preserved|{_NOT_LARGE})"
_UPPER_NORMAL = r"(upper (limits?|normal)|(upper|top|high)-normal|top|borderline|high)"
_NOT_BEFORE_NORMAL = rf"({_UPPER_NORMAL}|mildly|slightly|prominent|enlarged|but|with|except|lungs?)"
_ANGLES = r"(costophrenic|cp) (angles|sulci|recesses)"
_NO_FLUID = rf"""
        {_ANGLES} ((?!not )\S+ ){{0,2}}?(sharp|clear|preserved|maintained|unremarkable)(?! except)
        (sharp|clear) {_ANGLES}
        pleural (spaces|cavities)( \S+){{0,2}} (clear|normal|unremarkable|within normal limits)(?! except)"""
_LISTED = r"(?!(is|are|was|were|appears?|remains?|stable|unchanged)\b)"

NORMAL_STATEMENTS: dict[str, str] = {
    "Cardiomegaly": rf"""
        (heart|cardiac|cardio\S*)\b( (?!{_NOT_BEFORE_NORMAL}\b)[^ ;]+){{0,9}}? {_NORMAL}(?! except)
        (heart|cardiac)( {_LISTED}[^ ;]+){{0,5}}? lungs( {_LISTED}[^ ;]+){{0,3}}? (is|are|appear) {_NORMAL}(?! except)
        normal( \S+)?( of( the)?)? (heart|cardiac|cardio\S*)(?! except)""",
    "Enlarged Cardiomediastinum": rf"""
        \w*mediastin\w+\b( (?!{_NOT_BEFORE_NORMAL}\b)[^ ;]+){{0,9}}? {_NORMAL}(?! except)
        normal( (?!(with|but|is|are) )\S+){{0,8}} \w*mediastin\w+(?! except)""",
    "Fracture": rf"""
        (osseous|bony|skeletal) structures( \S+){{0,3}} ({_NORMAL}|intact)
        (bones|ribs|bony thorax)( \S+){{0,3}} ({_NORMAL}|intact)""",
    "Pleural Effusion": _NO_FLUID,
    "Effusion": _NO_FLUID,
    "Support Devices": r"""
        extubat(ed|ion)""",
}
"""Statements that negate a label without naming it."""

BORDERLINE_STATEMENTS: dict[str, str] = {
    "Cardiomegaly": rf"""
        (heart|cardiac|cardio\S*)\b( (?!but\b)[^ ;]+){{0,6}}? {_UPPER_NORMAL}
        (upper limits?|top|high|upper)[ -]normal( \S+)? (heart|cardiac)
        borderline( size of( the)?)? (cardiomegaly|heart|cardiac|enlarge\w+)""",
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
_SIZES = r"(small|mild|moderate|minimal|new|left|right|bilateral)"
_COURSES = r"(stable|unchanged|persistent|worsening)"
_STATES = rf"({_SIZES}|{_COURSES})"
_GREATER_OR_LESS = r"(smaller|larger|(de|in)creased|improved|worse(ned)?)"
_STATED = (
    r"(remains?|persists?|(is|are)( again| now| \S+ly)? "
    rf"({_GREATER_OR_LESS}|small|mild|moderate|large|enlarged|normal|clear|unremarkable|intact|stable|unchanged|present))"
)
_GOES_ON_TO_OR = r"(?=( (?!(is|are|was|were|has|have|with|but|there|and) )[^ ;]+){1,8}? (or|nor) )"
_HEDGES = r"(likely|probabl[ey]|possibl[ey]|presum\S+)"

CLAUSE_END_BEFORE_TERM = rf"""
    but|however|although|though|except|aside|apart|other than|despite|while|whereas
    (?<!nor is )(?<!nor are )there|(?<!excluded )(?<!ruled out )(?<!nor )(?<!no longer seen )(is|are|was|were)
    has|have|shows|demonstrates|now|which
    ;
    (?<!history )(?<!hx )(?<!removed )(?<!withdrawn )(?<!discontinued )(?<!absent )(?<!excluded )(?<!negative for ):
    (?<!consistent )(?<!compatible )(?<!associated )with
    ,(?= (and )?{_HEDGES} )
    (assessed|evaluated|seen|determined|excluded|visualized|measured) (due to|secondary to|owing to|because of|given)
    (?<!if any )(?<!if present ), ((and )?((a|an|the) )?{_COURSES}|(and )?(a|an|the) {_SIZES}|and {_SIZES})
    (?<!if any )(?<!if present ),(?!{_GOES_ON_TO_OR}) {_SIZES}"""
NEGATION_END_BEFORE_TERM = rf"""
    (rather than|instead of) [^,;]+ ,
    and ({_STATES}|the|a|an)
    and(?= ([^ ,;]+ ){{1,4}}?{_STATED} )
    ,(?= ((?!(or|nor|and) )[^ ,;]+ ){{1,4}}?((has|have) )?{_GREATER_OR_LESS} )"""
"""A new statement, which a negation before it does not reach."""
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
_MUCH = (
    r"( (significant|interval|definite|appreciable|substantial|great(ly)?|much|other|further|relevant|major|marked"
    r"|notable|clear|obvious|apparent|considerable|important|new|acute))*"
)
_SIGN_OF = r"( (convincing |definite )?(evidence|signs?) (of|for))?"
_CHANGED = (
    r"((in|de)creased?|(un)?changed|resolved|cleared|improved|worsened|progressed|enlarged|larger?|bigger|new|moved"
    r"|removed|re-?expanded|different|(well|optimally|properly|ideally) (position|place)\S*)"
)
_END = r"(resolution|resolving|clearing|resolved|cleared)( of)?"
_PARTLY = (
    r"(partial(ly)?|incomplete(ly)?|near(ly)?|near-complete|near-total|almost|virtual(ly)?)"
    r"( complete(ly)?| total(ly)?| interval)*"
)
_WORDS = r"( (?!(or|and|nor) )[^ ,;]+){0,5}?"
_ATTRIBUTE = (
    r"(shift|tension( component)?|loculation|mass effect|(air-)?fluid levels?|cavitation|calcification|displacement"
    r"|deviation|kinking)"
)
NO_CHANGE = rf"""
    (no|not|without){_SIGN_OF}{_WORDS} change (in|of|to|from|since|compared){_WORDS}(?= $)
    (no|not|without){_SIGN_OF}{_MUCH} (changes?|(in|de)creased?|changed|difference|improvement)( (in|of|from|since|to))?
    (no|not|lack of|without){_MUCH}( \S+ly| complete)* (changed|{_END})
    (no|not|without){_SIGN_OF}{_WORDS} {_ATTRIBUTE} (associated with|of|from|to|in|due to|by){_WORDS}(?= $)
    (no|not|without){_SIGN_OF}{_MUCH} (worsening|progression|enlargement|growth) (of|in)
    {_PARTLY} {_END}
    (until|to|ensure|document|confirm|verify)( complete| full| interval)? (resolution|clearing)( of)?
    (no|not) (longer(?! {_SEEN} )|only|more than)
    (no|without( a)?) doubt
    not (yet )?(been )?(removed|withdrawn|discontinued)"""
STILL_THERE = rf"""
    {_NOT} (been )?(\S+ly )?(yet )?(been )?{_CHANGED}
    {_NOT} (\S+ly )?(well|fully|completely|entirely|optimally|adequately) ({_SEEN}|evaluated|assessed|characterized)
    {_NOT} (\S+ly )?(typical|characteristic|specific|as(?! well)|under|kinked|fractured|advanced)
    {_NOT} (\S+ly )?(calcified|cavitary|cavitated|spiculated|displaced|angulated|comminuted|loculated|layering)
    (not|no longer) (coiled|looped|kinked|malpositioned|under tension|loculated)
    {_NOT} (previously|formerly) (been )?{_SEEN}
    {_NOT} (been )?(\S+ly )?{_SEEN}( \S+)?? {_EARLIER}
    (absent|not there) {_EARLIER}
    (which|that) (was|were|is|are) (\S+ly )?{_SEEN} {_EARLIER}
    no longer (enlarging|growing|increasing|new)"""
"""After a term, these describe a change or an earlier image and do not negate the finding in this one."""
ONE_SIDE = r"""
    (?<= )(?<!the )(?P<side>(right|left)(-sided)?) (and|but|with) (no|not)( an?| any)? (left|right)(-sided)?(?= )"""
"""A finding of one side that the other does not have, named once for both: "a small right and no left effusion"."""
UNDECIDED = rf"""
    (cannot|can not|can't|could not|couldn't|not|nor)( \S+){{0,3}}? {_EXCLUDED}
    (unable|difficult|hard|impossible) to (\S+ly )?(exclude|rule out)"""
NEGATION_BEFORE_TERM = r"""
    no|not|nothing|without|never|nor|neither|denies
    doubt
    negative for
    (free|absence|lack|clear|clearing|resolution) of
    absent|resolved|rather than|instead of
    (simulat|mimick)ing|simulates|mimics
    (rules|ruled|ruling) out
    excludes|excluded|excluding"""
NEGATION_AFTER_TERM = rf"""
    {_FIRM_VERB} (not|no longer|unlikely|absent|excluded|ruled out|resolved|cleared|gone)
    {_FIRM_VERB} (thought|felt|considered|believed)( to be)? unlikely
    ({_NOT}|no longer) {_SEEN}
    (has|have) (completely |largely )?(resolved|cleared)
    (has|have|is|are) (now |fully |completely )*re-?expanded
    unlikely|resolved"""
_PLURAL_OR_PAIR = r"(\( (s|es) \) )?((/|and|or|&) (\S+ ){1,2}?)?"
ANSWERED_NO = rf"""
    {_PLURAL_OR_PAIR}[:=-] (none|absent|negative|nil|{_NOT} {_SEEN})
    {_PLURAL_OR_PAIR}[:=-] no(?= ([,;/]|$))
    none(?= ([,;/]|$))
    {_PLURAL_OR_PAIR}(now )?absent(?= ([,;]|$))"""
"""Negative answer of a form, directly after the term."""
DEVICE_GONE_BEFORE = r"""
    (removal|explantation|withdrawal|discontinuation|extubation) of
    (removed|withdrew|withdrawn|discontinued|extubated|explanted)(?! ([,;]|and))"""
DEVICE_PLACED = r"""
    (placement|insertion|introduction|advancement|positioning) of
    (?<!previously )(?<!recently )(placed|inserted|introduced)|replaced (by|with)|exchanged for"""
"""What stands after these has come, whatever was removed before it."""
DEVICE_GONE_AFTER = r"""
    (removed|withdrawn|discontinued|pulled|explanted|taken out)
    removal"""
_PART = r"(tips?|ends?|side ?-?(ports?|holes?))( of( \S+){1,4}?)?"
_PLACE = r"(position|place|carina|svc|vein|cava|atrium|ventricle|stomach)"
DEVICE_PART_UNSEEN = rf"""
    {_PART}( (is|are|was|were))? ({_NOT}|no longer) (\S+ly |well )?({_SEEN}|included|imaged)
    (is|are|was|were) {_NOT} (in|at|within) (\S+ ){{0,2}}?{_PLACE}"""
"""A device of which these are said is there."""
DEVICE_STAYS = rf"""
    {_NOT} (\S+ ){{0,2}}?(removed|withdrawn|discontinued|pulled|explanted|taken out)
    (be|being) (removed|withdrawn|discontinued|pulled)
    (partially|partly) (removed|withdrawn|pulled)
    withdrawn (by|to|slightly|a)
    withdrawn( \S+){{0,4}}? (now|tip|terminat\w+|ends)
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
    correlat\S+|recommend\S*|evaluate|assess
    (evaluation|assessment) for"""
_NO_CAUSE = r"(?! (represent|reflect|due to|related to|secondary to|caused)\w*)"
DOUBT_AFTER_TERM = rf"""
    ((is|are|was|were|has|have|remains?) ((?!not )\S+ )?)?(possible|questioned|suspected|questionable)
    ((is|are|was|were) )?((thought|felt|considered|believed) )?((less|more|most|also|still|thought) )likely{_NO_CAUSE}
    (is|are) ({_HEDGES} )?(artifactual|artefactual|projectional|factitious|spurious|an? (artifact|artefact))
    (is|are|was|were|remains?|seems?) likely(?= ([,(]|given|in|as|based|$))
    (is|are|remains?) (also )?(in the differential|a (possibility|consideration|concern|question)|considered|of concern)
    (should|could|may|might|must) (also )?be (considered|present|excluded|ruled out|missed|there|hidden)
    (may|might|could) (also )?(exist|remain|persist)
    (is|are) (doubtful|uncertain)
    doubtful(?= ([,;]|$))
    ((is|are) (small|tiny|minimal|trace|mild) )?(, )?if (present|any)
    until proven otherwise
    (is|are) (also )?favou?red(?! to)
    (needs?|has|have) to be (considered|excluded|ruled out)
    versus|vs\.?
    \?(?= $)"""
NOT_EXCLUDED_AFTER_TERM = rf"""
    ((has|have|is|are|was|were|can|could|may|might) )?not (able to |possible to )?{_EXCLUDED}
    (can ?not|can't|couldn't|could not) be (\S+ly )?(excluded|ruled out)
    ((is|are|was|were|remains?) )?(difficult|hard|impossible) to (\S+ )?(exclude|rule out)"""
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
