/** What was dropped, as files. Knows no element of the page. */

/** The files of a drop. Of a folder, its images: nobody means the other files in it. */
export async function droppedFiles(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const found = items.map((item) => ({ entry: item.webkitGetAsEntry(), file: item.getAsFile() }));
  const isImage = (file) => file.type.startsWith("image/");
  const taken = ({ entry, file }) => (entry?.isDirectory ? filesUnder(entry).then((files) => files.filter(isImage)) : file);
  return (await Promise.all(found.map(taken))).flat();
}

async function filesUnder(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const files = [];
  const nextEntries = () => new Promise((resolve, reject) => reader.readEntries(resolve, reject));
  for (let entries; (entries = await nextEntries()).length; ) {
    for (const each of entries) files.push(...(await filesUnder(each)));
  }
  return files;
}
