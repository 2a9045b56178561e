"""Bring the pages of the documentation site together: `python docs/site/pages.py FOLDER`, part of `make docs`.

Every page is written once, in docs/, the README or another file of the repository. Here it gets its place in the site: links
lead to that place, files of the repository that a page links to become pages, and so do the notebook and the Python interface.
"""

import ast
import base64
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Pages that stand elsewhere in the repository, or under another name.
MOVED = {
    "README.md": "start.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "docs/tour.ipynb": "tour.md",
}
LANGUAGES = {".yaml": "yaml", ".cff": "yaml", ".py": "python"}
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n"
GALLERY = "results/demo/gallery/index.html"
FENCE = re.compile(r"(^```\w*\n.*?^```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
PICTURE = re.compile(r"!\[[^\]]*\]\([^)]*\)")
CREDITED = re.compile(PICTURE.pattern + r"(\n\n\(.*\))?")  # with the line below it in brackets
TABLE = re.compile(r"<table.*?</table>", re.DOTALL)


def outside_fences(text: str, change: Callable[[str], str]) -> str:
    """Apply a change to the text between blocks of code."""
    parts = FENCE.split(text)
    return "".join(part if number % 2 else change(part) for number, part in enumerate(parts))


def target(link: str, page: str) -> str:
    """Return the path in the repository that a relative link of a page leads to."""
    return os.path.normpath(Path(page).parent / link)


def same_address(path: Path) -> bool:
    """Return whether a table in Markdown would get the address of the same table in HTML, which the site shows instead."""
    return path.suffix == ".md" and path.with_suffix(".html").is_file()


def place(path: str) -> str:
    """Return where a file or a folder of the repository stands in the site."""
    if path in MOVED:
        return MOVED[path]
    if not path.startswith("docs/"):
        return f"source/{path}.md"
    inside = path.removeprefix("docs/")
    if (ROOT / path).is_dir():
        return f"{inside}/index.md"
    return str(Path(inside).with_suffix(".html")) if same_address(ROOT / path) else inside


def relinked(text: str, page: str) -> str:
    """Return the text of a page with links that fit the site; a link to nothing stays, so that MkDocs reports it."""

    def replacement(match: re.Match[str]) -> str:
        path = target(match[1], page)
        if not (ROOT / path).exists():
            return match[0]
        return f"]({os.path.relpath(place(path), Path(place(page)).parent)}"

    return outside_fences(text, lambda part: LINK.sub(replacement, part))


def linked(text: str, page: str) -> set[str]:
    """Return the files and folders of the repository that a page links to."""
    paths = {target(link, page) for part in FENCE.split(text)[::2] for link in LINK.findall(part)}
    return {path for path in paths if (ROOT / path).exists()}


def section(text: str, heading: str) -> str:
    """Return a section of a page with its heading."""
    match = re.search(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if match is None:
        sys.exit(f"README.md has no section '{heading}', which the title page of the site shows")
    return match[0]


def title_page(readme: str, index: str) -> str:
    """Return the title page: what the project is, two commands, a picture, and the list of all pages."""
    introduction = readme.split("\n\n")[1]
    commands = section(readme, "Two commands")
    picture, block = CREDITED.search(commands), FENCE.search(commands)
    if picture is None or block is None:
        sys.exit("'Two commands' in README.md lacks its picture or its commands")
    buttons = (
        "[Start](start.md){ .md-button .md-button--primary } "
        "[Play with a finished run](gallery.md){ .md-button }"
    )
    evidence = section(readme, "What has been shown, and what not")
    parts = [
        *["# wsss", introduction, block[0], buttons, relinked(picture[0], "README.md")],
        relinked(evidence, "README.md"),
        relinked(re.sub(r"^#", "##", index, flags=re.MULTILINE), "docs/index.md"),
    ]
    return "---\nhide: [toc]\n---\n" + "\n\n".join(parts)


def gallery_page(text: str) -> str:
    """Return the page of the gallery with a live one in place of its first picture."""
    frame = (
        f"[In a window of its own]({GALLERY}){{ .md-button target=_blank }}\n\n"
        f'<iframe class="gallery" src="{GALLERY}" title="Gallery of the demo"></iframe>'
    )
    return "---\nhide: [toc]\n---\n" + PICTURE.sub(lambda _: frame, text, count=1)


def notebook_page(content: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as a page with its stored output, and the pictures of the page by name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in json.loads(content)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"tour/{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![picture that the code above draws]({name})")
            elif "text/html" in data:
                parts += TABLE.findall("".join(data["text/html"]))
            else:
                parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
    return "\n\n".join(parts), pictures


def reference_page(package: str) -> str:
    """Return the page that shows the docstring of every public name; package: the text of wsss/__init__.py."""
    values = {
        node.targets[0].id: node.value
        for node in ast.parse(package).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    parts = [
        "# Reference",
        "Every public name of `import wsss`, from the code. [From Python](api.md) shows how they go together.",
    ]
    for module, names in ast.literal_eval(values["_MODULES"]).items():
        parts.append(f"## {module.removeprefix('api.').capitalize()}")
        parts += [
            f"::: wsss.{module}.{name}\n    options: {{heading: wsss.{name}, toc_label: {name}}}"
            for name in names
        ]
    return "\n\n".join(parts)


def source_page(path: str) -> str:
    """Return a file of the repository as a page."""
    language = LANGUAGES.get(Path(path).suffix, "text")
    text = (ROOT / path).read_text(encoding="utf-8").rstrip()
    return f"{UNSEARCHED}# {path}\n\n````{language}\n{text}\n````\n"


def folder_page(path: str, files: Iterable[str]) -> str:
    """Return the list of the files below a folder of docs/."""
    names = [name.removeprefix("docs/") for name in files if name.startswith(f"{path}/")]
    start = Path(place(path)).parent
    names = [name for name in names if "gallery" not in Path(name).parts]
    lines = [
        f"- [{os.path.relpath(name, start)}]({os.path.relpath(name, start)})" for name in names
    ]
    return f"{UNSEARCHED}# {path}\n\n" + "\n".join(lines) + "\n"


def files_of_docs() -> list[str]:
    """Return the files of docs/ that belong into the site, as paths in the repository."""
    left_out = {"site", "figures"}  # this folder, and figures that are not in the repository
    paths = sorted(path for path in (ROOT / "docs").rglob("*") if path.is_file())
    return [
        str(path.relative_to(ROOT))
        for path in paths
        if left_out.isdisjoint(path.relative_to(ROOT).parts) and not same_address(path)
    ]


def pages() -> tuple[dict[str, str], dict[str, bytes]]:
    """Return the text of every page and the content of every picture, by their places in the site."""
    files = files_of_docs()
    names = [name for name in (*files, *MOVED) if name.endswith(".md")]
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in names}
    tour, pictures = notebook_page((ROOT / "docs/tour.ipynb").read_text(encoding="utf-8"))
    texts["docs/tour.ipynb"] = tour
    result = {
        place(name): (UNSEARCHED if name.startswith("docs/results/") else "") + relinked(text, name)
        for name, text in texts.items()
    }
    for path in sorted(set().union(*(linked(text, name) for name, text in texts.items()))):
        if (ROOT / path).is_dir():
            result[place(path)] = folder_page(path, files)
        elif place(path).startswith("source/"):
            result[place(path)] = source_page(path)
    result["index.md"] = title_page(texts["README.md"], texts["docs/index.md"])
    result["gallery.md"] = gallery_page(result["gallery.md"])
    result["reference.md"] = reference_page((ROOT / "wsss/__init__.py").read_text(encoding="utf-8"))
    return result, pictures


def write(folder: Path) -> None:
    """Write all pages and the files beside them into a folder of their own, in place of what it held."""
    shutil.rmtree(folder, ignore_errors=True)
    texts, pictures = pages()
    contents = {name: text.encode() for name, text in texts.items()} | pictures
    for name in files_of_docs():
        if place(name) not in contents and not name.endswith(".ipynb"):
            contents[place(name)] = (ROOT / name).read_bytes()
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
