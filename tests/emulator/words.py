"""The words that generated records are made of. All names are invented; some hold the letters that careless code breaks on."""

from decimal import Decimal

BRANDS = ("Northgate", "Harbour Lane", "Alder & Finch", "Quayside", "Saint-Rémy", "Lowland")
CITIES = (
    ("Edinburgh", "Europe/London", "GBP"),
    ("Madrid", "Europe/Madrid", "EUR"),
    ("New York", "America/New_York", "USD"),
    ("Dubai", "Asia/Dubai", "AED"),
    ("Sydney", "Australia/Sydney", "AUD"),
    ("Glasgow", "Europe/London", "GBP"),
    ("Los Angeles", "America/Los_Angeles", "USD"),
    ("Auckland", "Pacific/Auckland", "NZD"),
)
FIRST_NAMES = (
    *(
        "Ada",
        "Amir",
        "Ana",
        "Bea",
        "Callum",
        "Chloë",
        "Dina",
        "Eilidh",
        "Farah",
        "Fergus",
        "Grace",
        "Hana",
        "Iain",
        "Ines",
    ),
    *(
        "Jack",
        "José",
        "Kirsty",
        "Lena",
        "Mairi",
        "Mei",
        "Noor",
        "Olu",
        "Priya",
        "Rory",
        "Søren",
        "Tariq",
        "Una",
        "Zoë",
        "李",
    ),
)
LAST_NAMES = (
    *(
        "Adair",
        "Bain",
        "Campbell",
        "Dunbar",
        "Elliot",
        "Fraser",
        "García",
        "Haddad",
        "Innes",
        "Jarvis",
        "Khan",
        "Lindsay",
    ),
    *(
        "MacLeod",
        "Müller",
        "Nakamura",
        "O'Neil",
        "Petrova",
        "Quinn",
        "Ross",
        "Singh",
        "Tait",
        "Urquhart",
        "Watt",
        "Young",
    ),
)
TAGS = ("VIP", "newsletter", "first visit", "trade", "staff", "façade")
ALLERGIES = ("none", "nuts", "latex", "pollen, dust", "")
SERVICES = (
    "Personal styling",
    "Shoe fitting",
    "Bridal consultation",
    "Repair desk",
    "Tailoring",
    "Gift advice",
    "Skin consultation",
)
QUESTIONS = (
    ("First visit?", "boolean"),
    ("What are you looking for?", "text"),
    ("How did you hear of us?", "text"),
    ("How many guests?", "number"),
    ("May we take photographs?", "boolean"),
)
TEXT_ANSWERS = (
    "A winter coat",
    "",
    "Instagram",
    'The "blue" one',
    "",
    "Regalo para mamá",
    "Line one\nLine two",
    "size 38½",
)
NOTES = (
    "",
    "",
    "",
    "",
    "",
    "Prefers mornings",
    "Step-free access, please",
    "Überraschung 🎁",
    "Paid by voucher; see till",
    "a,b;c\t\\d",
)
LOCALES = ("en", "es", "fr", "ar", "de")
CUSTOMER_ZONES = ("Europe/London", "America/Detroit", "Asia/Tokyo", "Pacific/Auckland", "America/Los_Angeles")
SOURCES = ("appointment_screen", "online_booking", "api")
BOOKING_TYPES = ("Hourly", "Hourly", "Hourly", "Fixed")
TITLES = (
    "Autumn styling evening",
    "Denim workshop",
    "Meet the maker",
    "Gift-wrapping class",
    "Scarf clinic",
    "Members' preview",
)
PRICES = tuple(Decimal(text) for text in ("20", "12.1", "0.10", "45.50", "0", "99.99", "7.125", "150", "33.3"))
PRODUCTS = ("Silk Blouse", "Wool Scarf", "Leather Boots", "Linen Shirt")
