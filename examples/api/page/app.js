"use strict";
const list = document.getElementById("books");
const more = document.getElementById("more");
const note = document.getElementById("note");
let page = 0;

function show(book) {
  const item = document.createElement("li");
  if (book.cover) {
    const image = document.createElement("img");
    image.src = `/api/books/${book.id}/cover`;
    image.alt = "";
    item.append(image);
  }
  item.append(`${book.title} (${book.year})`);
  list.append(item);
}

async function load() {
  const resp = await fetch(`/api/books?page=${page}`);
  for (const book of await resp.json()) show(book);
  more.hidden = !resp.headers.get("Link");
  page++;
}

async function send(method, path, token, body, type) {
  const headers = { Authorization: `Bearer ${token}` };
  if (type) headers["Content-Type"] = type;
  const resp = await fetch(path, { method, headers, body });
  const answer = await resp.json();
  if (!resp.ok) throw new Error(answer.detail || answer.title);
  return answer;
}

more.addEventListener("click", load);
document.getElementById("add").addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = new FormData(event.target);
  const token = fields.get("token");
  try {
    let book = await send("POST", "/api/books", token,
      JSON.stringify({ title: fields.get("title"), year: Number(fields.get("year")) }), "application/json");
    if (fields.get("cover").size > 0) {
      const form = new FormData();
      form.append("cover", fields.get("cover"));
      book = await send("PUT", `/api/books/${book.id}/cover`, token, form);
    }
    show(book);
    note.textContent = "Added.";
  } catch (error) {
    note.textContent = error.message;
  }
});
load();
