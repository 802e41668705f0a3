"""German words and their German Sign Language glosses: the tables that `grammar` reads (columns as in `english`)."""

# word, plural (- for a mass noun), gender, gloss, tags, topic
NOUNS = """
haus häuser n HAUS c home
tür türen f TÜR o home
fenster fenster n FENSTER oc home
tisch tische m TISCH tc home
stuhl stühle m STUHL t home
bett betten n BETT tc home
schlüssel schlüssel m SCHLÜSSEL t home
küche - f KÜCHE l home
garten - m GARTEN l home
apfel äpfel m APFEL f food
brot - n BROT f food
milch - f MILCH d food
wasser - n WASSER d food
kaffee - m KAFFEE d food
käse - m KÄSE f food
suppe - f SUPPE f food
ei eier n EI f food
restaurant - n RESTAURANT l food
auto autos n AUTO vc travel
bus busse m BUS v travel
zug züge m ZUG v travel
tasche taschen f TASCHE to travel
fahrkarte fahrkarten f FAHRKARTE t travel
hotel - n HOTEL l travel
stadt - f STADT l travel
mutter - f MUTTER p family
vater - m VATER p family
schwester schwestern f SCHWESTER p family
bruder brüder m BRUDER p family
kind kinder n KIND p family
baby babys n BABY p family
freundin freundinnen f FREUNDIN p family
hund hunde m HUND a family
katze katzen f KATZE a family
computer computer m COMPUTER t work
brief briefe m BRIEF xw work
geld - n GELD t work
chef - m CHEF p work
büro - n BÜRO l work
problem probleme n PROBLEM - work
schule - f SCHULE l school
lehrerin lehrerinnen f LEHRERIN p school
schülerin schülerinnen f SCHÜLERIN p school
buch bücher n BUCH txw school
test tests m PRÜFUNG xw school
geschichte geschichten f GESCHICHTE xw school
ärztin ärztinnen f ÄRZTIN p health
krankenhaus - n KRANKENHAUS l health
medizin - f MEDIZIN td health
hand hände f HAND h health
arm arme m ARM h health
ball bälle m BALL tg leisure
film filme m FILM m leisure
spiel spiele n SPIEL mg leisure
musik - f MUSIK g leisure
party - f FEIER l leisure
park - m PARK l leisure
bild bilder n BILD t leisure
wetter - n WETTER - weather
"""

# infinitive, first, second and third person singular, participle, gloss, tags of its objects, topic
VERBS = """
tragen trage trägst trägt getragen TRAGEN tx -
finden finde findest findet gefunden FINDEN txa -
verlieren verliere verlierst verliert verloren VERLIEREN tx -
kaufen kaufe kaufst kauft gekauft KAUFEN txfdv -
verkaufen verkaufe verkaufst verkauft verkauft VERKAUFEN tv work
sehen sehe siehst sieht gesehen SEHEN tpav -
lesen lese liest liest gelesen LESEN x school
schreiben schreibe schreibst schreibt geschrieben SCHREIBEN w school
kochen koche kochst kocht gekocht KOCHEN f food
essen esse isst isst gegessen ESSEN f food
trinken trinke trinkst trinkt getrunken TRINKEN d food
waschen wasche wäschst wäscht gewaschen WASCHEN ch home
putzen putze putzt putzt geputzt PUTZEN c home
öffnen öffne öffnest öffnet geöffnet ÖFFNEN o home
schließen schließe schließt schließt geschlossen SCHLIESSEN o home
bringen bringe bringst bringt gebracht BRINGEN tfdx -
besuchen besuche besuchst besucht besucht BESUCHEN p family
treffen treffe triffst trifft getroffen TREFFEN p -
lieben liebe liebst liebt geliebt LIEBEN afmg -
kennen kenne kennst kennt gekannt KENNEN p -
mögen mag magst mag gemocht MÖGEN tfdamg -
brauchen brauche brauchst braucht gebraucht BRAUCHEN tfdx -
haben habe hast hat gehabt HABEN tavx -
vergessen vergesse vergisst vergisst vergessen VERGESSEN tx -
schauen schaue schaust schaut geschaut SCHAUEN m leisure
spielen spiele spielst spielt gespielt SPIELEN g leisure
"""
INTRANSITIVE = """
arbeiten arbeite arbeitest arbeitet gearbeitet ARBEITEN - work
schlafen schlafe schläfst schläft geschlafen SCHLAFEN - home
warten warte wartest wartet gewartet WARTEN - travel
lernen lerne lernst lernt gelernt LERNEN - school
"""
MOTION = """
gehen gehe gehst geht gegangen GEHEN - -
fahren fahre fährst fährt gefahren FAHREN - travel
laufen laufe läufst läuft gelaufen LAUFEN - -
kommen komme kommst kommt gekommen KOMMEN - -
"""
WEATHER = """
regnen - - regnet geregnet REGNEN - weather
schneien - - schneit geschneit SCHNEIEN - weather
"""
STATES = ("verlieren", "kennen", "mögen", "lieben", "brauchen", "haben", "vergessen")
# first, second, third person, plural
MODALS = """
kann kannst kann können KÖNNEN
muss musst muss müssen MÜSSEN
möchte möchtest möchte möchten MÖCHTEN
"""
# word, stem for endings, gloss, what it is said of, topic
ADJECTIVES = """
rot rot ROT n -
blau blau BLAU n -
grün grün GRÜN n -
schwarz schwarz SCHWARZ n -
weiß weiß WEISS n -
neu neu NEU n -
alt alt ALT n -
groß groß GROSS n -
klein klein KLEIN n -
gut gut GUT nw -
schlecht schlecht SCHLECHT nw -
schön schön SCHÖN nw -
kalt kalt KALT w weather
warm warm WARM w weather
glücklich glücklich GLÜCKLICH p -
traurig traurig TRAURIG p -
müde müd MÜDE p health
hungrig hungrig HUNGRIG p food
krank krank KRANK p health
nett nett NETT p family
"""
NUMBERS = {"zwei": "ZWEI", "drei": "DREI", "vier": "VIER", "fünf": "FÜNF", "viele": "VIELE"}
TIMES = {
    "gestern": "GESTERN", "letzte woche": "LETZTE-WOCHE", "heute": "HEUTE", "jetzt": "JETZT", "jeden tag": "JEDEN-TAG",
    "im winter": "WINTER", "im sommer": "SOMMER", "morgen": "MORGEN", "nächste woche": "NÄCHSTE-WOCHE", "bald": "BALD",
}  # fmt: skip
PAST_TIMES, FUTURE_TIMES = ("gestern", "letzte woche"), ("morgen", "nächste woche", "bald")
PRESENT_TIMES = ("heute", "jetzt", "jeden tag", "im winter", "im sommer")
QUESTIONS = {"was": "WAS", "wo": "WO", "wer": "WER", "wann": "WANN", "warum": "WARUM", "wie viele": "WIE-VIELE"}
PRONOUNS = {
    "ich": "ICH", "mich": "ICH", "du": "DU", "dich": "DU", "er": "ER", "ihn": "ER", "sie": "SIE", "es": "ES",
    "wir": "WIR", "uns": "WIR",
}  # fmt: skip
POSSESSIVES = {"mein": "MEIN", "dein": "DEIN", "sein": "SEIN", "unser": "UNSER"}  # stems, endings are added
OTHERS = {"name": "NAME", "hallo": "HALLO", "danke": "DANKE", "entschuldigung": "ENTSCHULDIGUNG", "bitte": "BITTE",
          "sehr": "SEHR", "mit": "MIT", "nicht": "NICHT", "nie": "NIE", "kein": "KEIN"}  # fmt: skip
MARKERS = ("FERTIG",)  # glosses that the grammar adds
PROMPTS = (
    "wie gebärdet man '{}'?", "was ist die gebärde für '{}'?", "zeige mir '{}' in gebärdensprache", "bitte gebärde: {}",
)  # fmt: skip
