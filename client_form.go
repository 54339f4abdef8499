package flare

import (
	"errors"
	"io"
	"strings"
)

// This file is layer 4 (roles): forms with files as bodies of a client's requests.

// A ClientForm is a body of type multipart/form-data for ClientRequest.SetBody and
// for Post and its like:
//
//	form := new(flare.ClientForm)
//	form.Add("title", "The Analytical Engine")
//	form.AddFile("photo", "engine.jpg", file)
//	resp, err := client.Post(ctx, "/photos", form)
//
// It is streamed. Its length is said beforehand, and it can be sent again, if all
// files are io.Seekers with an end, as a regular *os.File and a *bytes.Reader are;
// else it is sent in chunks, and once.
type ClientForm struct{ parts []clientFormPart }

type clientFormPart struct {
	head    string    // without its boundary
	text    string    // of a field
	content io.Reader // of a file; nil for a field
	start   int64     // where content began
	length  int64     // in bytes, -1: not known
}

// Add adds a field.
func (f *ClientForm) Add(name, value string) {
	f.parts = append(f.parts, clientFormPart{
		head: "Content-Disposition: form-data; name=\"" + formEscaper.Replace(name) + "\"\r\n\r\n",
		text: value, length: int64(len(value)),
	})
}

// AddFile adds a file, whose type is by the extension of its name. content is read
// from where it stands when the form is sent, and is not closed.
func (f *ClientForm) AddFile(name, fileName string, content io.Reader) {
	p := clientFormPart{
		head: "Content-Disposition: form-data; name=\"" + formEscaper.Replace(name) + "\"; filename=\"" + formEscaper.Replace(fileName) + "\"\r\n" +
			"Content-Type: " + typeByName(fileName) + "\r\n\r\n",
		content: content, length: -1,
	}
	if s, ok := content.(io.Seeker); ok {
		p.start, p.length = seekable(s)
	}
	f.parts = append(f.parts, p)
}

// formEscaper is what browsers do to names in a form (WHATWG HTML §4.10.21.8).
var formEscaper = strings.NewReplacer("\"", "%22", "\r", "%0D", "\n", "%0A")

// seekable returns where s stands and how much is behind that, -1 if it cannot tell.
func seekable(s io.Seeker) (start, length int64) {
	start, err := s.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, -1
	}
	end, err := s.Seek(0, io.SeekEnd)
	if _, back := s.Seek(start, io.SeekStart); err != nil || back != nil {
		return 0, -1
	}
	return start, max(end-start, 0)
}

// length returns the length of the body in bytes, and whether it is known, which lets
// the body be sent again.
func (f *ClientForm) length(boundary string) (length int64, known bool) {
	for _, p := range f.parts {
		if p.length < 0 {
			return 0, false
		}
		length += int64(len("--")+len(boundary)+len("\r\n")+len(p.head)+len("\r\n")) + p.length
	}
	return length + int64(len("--")+len(boundary)+len("--\r\n")), true
}

func (f *ClientForm) reader(boundary string) io.Reader {
	var readers []io.Reader
	for _, p := range f.parts {
		content := p.content
		switch {
		case content == nil:
			content = strings.NewReader(p.text)
		case p.length >= 0:
			content = &exactReader{content, p.length}
		}
		readers = append(readers, strings.NewReader("--"+boundary+"\r\n"+p.head), content, strings.NewReader("\r\n"))
	}
	return io.MultiReader(append(readers, strings.NewReader("--"+boundary+"--\r\n"))...)
}

// rewound is reader once more, with all files where they began.
func (f *ClientForm) rewound(boundary string) (io.Reader, error) {
	for _, p := range f.parts {
		if s, ok := p.content.(io.Seeker); ok {
			if _, err := s.Seek(p.start, io.SeekStart); err != nil {
				return nil, err
			}
		}
	}
	return f.reader(boundary), nil
}

var errFileShrank = errors.New("flare: a file of a form is shorter than it was")

// An exactReader reads n bytes and no more; fewer are an error, since the length was
// said already.
type exactReader struct {
	r io.Reader
	n int64 // left
}

func (e *exactReader) Read(p []byte) (int, error) {
	if e.n == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.n)])
	if e.n -= int64(n); err == io.EOF && e.n > 0 {
		err = errFileShrank
	}
	return n, err
}
