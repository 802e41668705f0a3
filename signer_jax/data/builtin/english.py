"""English words and their American Sign Language glosses: the tables that `grammar` reads.

Columns are separated by blanks; `_` stands for a blank inside a column and `-` for "none". `tags` say which verbs go
with which nouns: t thing, f food, d drink, p person, a animal, x something to read, w something to write, m something
to watch, g something to play, v vehicle, o something to open, c something to clean, h part of the body, l place.
"""

# word, plural (- for a mass noun), gloss, tags, topic
NOUNS = """
house houses HOUSE c home
door doors DOOR o home
window windows WINDOW oc home
table tables TABLE tc home
chair chairs CHAIR t home
bed beds BED tc home
key keys KEY t home
kitchen - KITCHEN l home
garden - GARDEN l home
apple apples APPLE f food
bread - BREAD f food
milk - MILK d food
water - WATER d food
coffee - COFFEE d food
cheese - CHEESE f food
soup - SOUP f food
egg eggs EGG f food
restaurant - RESTAURANT l food
car cars CAR vc travel
bus buses BUS v travel
train trains TRAIN v travel
bag bags BAG to travel
ticket tickets TICKET t travel
hotel - HOTEL l travel
city - CITY l travel
mother - MOTHER p family
father - FATHER p family
sister sisters SISTER p family
brother brothers BROTHER p family
child children CHILD p family
baby babies BABY p family
friend friends FRIEND p family
dog dogs DOG a family
cat cats CAT a family
computer computers COMPUTER t work
letter letters LETTER xw work
money - MONEY t work
boss - BOSS p work
office - OFFICE l work
problem problems PROBLEM - work
school - SCHOOL l school
teacher teachers TEACHER p school
student students STUDENT p school
book books BOOK txw school
test tests TEST xw school
story stories STORY xw school
doctor doctors DOCTOR p health
hospital - HOSPITAL l health
medicine - MEDICINE td health
hand hands HAND h health
arm arms ARM h health
ball balls BALL tg leisure
film films MOVIE m leisure
game games GAME mg leisure
music - MUSIC g leisure
party - PARTY l leisure
park - PARK l leisure
picture pictures PICTURE t leisure
weather - WEATHER - weather
"""

# base form, third person, past (- where it equals the base form), gloss, tags of its objects, topic
VERBS = """
carry carries carried CARRY tx -
find finds found FIND txa -
lose loses lost LOSE tx -
buy buys bought BUY txfdv -
sell sells sold SELL tv work
see sees saw SEE tpav -
read reads - READ x school
write writes wrote WRITE w school
cook cooks cooked COOK f food
eat eats ate EAT f food
drink drinks drank DRINK d food
wash washes washed WASH ch home
clean cleans cleaned CLEAN c home
open opens opened OPEN o home
close closes closed CLOSE o home
bring brings brought BRING tfdx -
help helps helped HELP p -
visit visits visited VISIT p family
meet meets met MEET p -
love loves loved LOVE afmg -
know knows knew KNOW p -
like likes liked LIKE tfdamg -
need needs needed NEED tfdx -
have has had HAVE tavx -
forget forgets forgot FORGET tx -
watch watches watched WATCH m leisure
play plays played PLAY g leisure
"""
INTRANSITIVE = """
work works worked WORK - work
sleep sleeps slept SLEEP - home
wait waits waited WAIT - travel
learn learns learned LEARN - school
"""
MOTION = """
go goes went GO - -
drive drives drove DRIVE - travel
walk walks walked WALK - -
come comes came COME - -
"""
WEATHER = """
rain rains rained RAIN - weather
snow snows snowed SNOW - weather
"""
STATES = ("lose", "know", "like", "love", "need", "have", "forget")  # nothing one asks for or can do
MODALS = {"can": "CAN", "must": "MUST", "will": "WILL", "want to": "WANT", "wants to": "WANT"}

# word, gloss, what it is said of (p persons, n nouns, w weather and food), topic
ADJECTIVES = """
red RED n -
blue BLUE n -
green GREEN n -
black BLACK n -
white WHITE n -
new NEW n -
old OLD n -
big BIG n -
small SMALL n -
good GOOD nw -
bad BAD nw -
beautiful BEAUTIFUL nw -
cold COLD w weather
warm WARM w weather
happy HAPPY p -
sad SAD p -
tired TIRED p health
hungry HUNGRY p food
sick SICK p health
kind NICE p family
"""
NUMBERS = {"two": "TWO", "three": "THREE", "four": "FOUR", "five": "FIVE", "many": "MANY"}
TIMES = {
    "yesterday": "YESTERDAY", "last week": "LAST-WEEK", "today": "TODAY", "now": "NOW", "every day": "EVERY-DAY",
    "in winter": "WINTER", "in summer": "SUMMER", "tomorrow": "TOMORROW", "next week": "NEXT-WEEK", "soon": "SOON",
}  # fmt: skip
PAST_TIMES, FUTURE_TIMES = ("yesterday", "last week"), ("tomorrow", "next week", "soon")
PRESENT_TIMES = ("today", "now", "every day", "in winter", "in summer")
QUESTIONS = {"what": "WHAT", "where": "WHERE", "who": "WHO", "when": "WHEN", "why": "WHY", "how many": "HOW-MANY"}
# pronoun: its gloss; the first of each pair is the subject, the second the object
PRONOUNS = {
    "i": "IX-1", "me": "IX-1", "you": "IX-2", "he": "IX-3", "she": "IX-3", "it": "IX-3", "him": "IX-3",
    "we": "IX-WE", "us": "IX-WE", "they": "IX-THEY", "them": "IX-THEY",
}  # fmt: skip
POSSESSIVES = {"my": "IX-1", "your": "IX-2", "his": "IX-3", "her": "IX-3", "our": "IX-WE", "their": "IX-THEY"}
OTHERS = {"name": "NAME", "hello": "HELLO", "thank you": "THANK-YOU", "sorry": "SORRY", "please": "PLEASE",
          "very": "VERY", "with": "WITH", "not": "NOT", "never": "NEVER"}  # fmt: skip
MARKERS = ("POSS", "FINISH")  # glosses that the grammar adds
PROMPTS = (
    "how do you sign '{}'?", "what is the sign for '{}'?", "show me '{}' in sign language", "please sign: {}",
)  # fmt: skip
