"""Parameter files that are wrong or hostile, and names that would do harm in a table or a page."""

from dataclasses import dataclass

WIDE = "a: &a [{}]\n".format(", ".join(["x"] * 10)) + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)  # a billion laughs
NOT_YAML = "params.yaml is not valid YAML: "


@dataclass(frozen=True)
class Params:
    """A parameter file and what is said of it."""

    name: str
    content: str | bytes
    said: str


BAD = [
    Params("a tag that runs a command", "a: !!python/object/apply:os.system ['touch trace']", NOT_YAML),
    Params("a tag of a module", "a: !!python/module:os", NOT_YAML),
    Params("a tag of a name", "a: !!python/name:os.system", NOT_YAML),
    Params("a tag of its own", "a: !mine 3", NOT_YAML),
    Params("a billion laughs", WIDE, "its aliases stand for more than 100000 values"),
    Params("an alias of itself", "a: &a [*a]", "an alias contains itself"),
    Params("an alias of nothing", "a: *a", NOT_YAML),
    Params("nested without end", "a: " + "[" * 20_000, NOT_YAML),
    Params("a key twice", "cam: {batch: 1, batch: 2}", "the key 'batch' is there twice, again in line 1"),
    Params("a section twice", "seeds: [0]\ncam: {batch: 1}\nseeds: [1]", "'seeds' is there twice, again in line 3"),
    Params("two documents", "seeds: [0]\n---\nseeds: [1]", NOT_YAML),
    Params("a date that is none", "seeds: 2024-99-99", NOT_YAML),
    Params("tabs", "cam:\n\tbatch: 1", NOT_YAML),
    Params("a path of Windows in double quotes", 'data: {voc12: {root: "C:\\data\\VOC2012"}}',
           "write paths with / and without quotes"),
    Params("a dataset called no", "datasets: [no]", "write such a word in quotes, as 'no'"),
    Params("a backbone misspelt", "classifier: {backbone: resnet5O}", "classifier.backbone: timm has no network "
           "'resnet5O'; did you mean resnet50"),
    Params("an open bracket", "seeds: [0", NOT_YAML),
    Params("not UTF-8", b"seeds: [0] # \xff", NOT_YAML),
    Params("NUL bytes", b"seeds: [0]\0", NOT_YAML),
    Params("a list", "- seeds", "does not hold `key: value` lines"),
    Params("a word", "seeds", "does not hold `key: value` lines"),
    Params("keys that are no words", "1: 2", "does not hold `key: value` lines"),
    Params("an unknown key", "sedes: [0]", "unknown key sedes; did you mean 'seeds'?"),
    Params("an unknown key inside", "cam: {batches: 1}", "unknown key cam.batches; did you mean 'batch'?"),
    Params("a key of a number", "cam: {1: 2}", "cam.1"),
    Params("a section that is a word", "cam: fast", "cam: "),
    Params("a section that is nothing", "cam:", "cam: "),
    Params("a preset that is a list", "segmenter: {preset: [a]}", "segmenter.preset: ['a'] is not one of"),
    Params("a number too large", f"seeds: [{'9' * 5000}]", "params.yaml"),
    Params("no number", "classifier: {train: {lr: .nan}}", "classifier.train.lr: "),
    Params("infinity", "classifier: {train: {lr: .inf}}", "classifier.train.lr: "),
    Params("a dataset upwards", "data: {csv: {../up: {table: x.csv}}}", "use letters, digits, '-' and '_' alone"),
    Params("a dataset with a slash", "data: {csv: {a/b: {table: x.csv}}}", "use letters, digits"),
    Params("a dataset with a mark-up", "data: {csv: {<b>: {table: x.csv}}}", "use letters, digits"),
    Params("a dataset like a built-in", "data: {csv: {voc12: {table: x.csv}}}", "is taken by a built-in"),
    Params("a method upwards", "methods: [../cam]", "methods: '../cam' is not one of"),
    Params("several at once", "cam: {batch: 0}\nseeds: [-1]\nx: 1", "3 problems"),
]  # fmt: skip

EVIL = [
    "=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1", "=cmd|' /C calc'!A0",
    '=HYPERLINK("http://127.0.0.1","x")', "<script>alert(1)</script>", "<img src=x onerror=alert(1)>",
    '"><svg/onload=alert(1)>', "{{ 7*7 }}", "{% raw %}", "&lt;b&gt;", "\\input{passwd}", "$x_1$",
    "100 % & more", "a|b", "`x`", "~#^", "a_b{c}", "\u202egnp.exe", "a\nb", "'",
]  # fmt: skip
