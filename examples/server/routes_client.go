package main

import (
	stdbytes "bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"flare"
)

// clientRoutes adds what clients are tried against, in httpbin's shapes.
func clientRoutes(mux *flare.Mux) {
	mux.Get("/get", func(w *flare.ResponseWriter, r *flare.Request) error {
		return w.JSON(http.StatusOK, seen(r))
	})
	mux.Post("/post", post)
	mux.Get("/redirect/{n}", redirect)
	mux.Handle("/redirect-to", flare.HandlerFunc(redirectTo))
	mux.Get("/gzip", coded("gzip"))
	mux.Get("/deflate", coded("deflate"))
	mux.Handle("/delay/{s}", flare.HandlerFunc(delay))
}

// seen is what httpbin tells about any request.
func seen(r *flare.Request) map[string]any {
	args := map[string]any{}
	for name, values := range r.Query() {
		args[name] = oneOrMore(values)
	}
	fields := map[string]string{}
	for name := range r.Header().All() {
		fields[http.CanonicalHeaderKey(name)] = strings.Join(r.Header().Values(name), ",")
	}
	return map[string]any{
		"args":    args,
		"headers": fields,
		"origin":  r.RemoteAddr().Addr().String(),
		"url":     "http://" + r.Host() + r.Target(),
	}
}

func oneOrMore(values []string) any {
	if len(values) == 1 {
		return values[0]
	}
	return values
}

func post(w *flare.ResponseWriter, r *flare.Request) error {
	body, err := r.Bytes()
	if err != nil {
		return err
	}
	answer := seen(r)
	form := map[string]any{}
	answer["form"], answer["data"], answer["json"], answer["files"] = form, "", nil, map[string]any{}
	kind, _, _ := strings.Cut(r.Header().Get("Content-Type"), ";")
	switch strings.ToLower(strings.TrimSpace(kind)) {
	case "application/x-www-form-urlencoded":
		values, err := url.ParseQuery(string(body))
		if err != nil {
			return &flare.StatusError{Code: http.StatusBadRequest, Message: "the body is not a form", Err: err}
		}
		for name, values := range values {
			form[name] = oneOrMore(values)
		}
	default:
		answer["data"] = string(body)
		answer["json"] = jsonOrNil(body)
	}
	return w.JSON(http.StatusOK, answer)
}

// redirect takes n redirects to get to /get.
func redirect(w *flare.ResponseWriter, r *flare.Request) error {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 1 || n > 100 {
		return &flare.StatusError{Code: http.StatusBadRequest, Message: "n must be from 1 to 100"}
	}
	if n == 1 {
		return w.Redirect(http.StatusFound, "/get")
	}
	return w.Redirect(http.StatusFound, "/redirect/"+strconv.Itoa(n-1))
}

// redirectTo goes where the query says: for trying clients, not for a site.
func redirectTo(w *flare.ResponseWriter, r *flare.Request) error {
	code, err := number(r, "status_code", http.StatusFound, 300, 399)
	if err != nil {
		return err
	}
	to := r.Query().Get("url")
	if to == "" {
		return &flare.StatusError{Code: http.StatusBadRequest, Message: "url is missing"}
	}
	if _, err := io.Copy(io.Discard, r.Body()); err != nil {
		return err
	}
	return w.Redirect(code, to)
}

// coded answers in a content coding, whether or not the client asked for it.
func coded(coding string) flare.HandlerFunc {
	return func(w *flare.ResponseWriter, r *flare.Request) error {
		answer := seen(r)
		answer[map[string]string{"gzip": "gzipped", "deflate": "deflated"}[coding]] = true
		answer["method"] = r.Method()
		p, err := encode(coding, answer)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Encoding", coding)
		return w.Blob(http.StatusOK, "application/json", p)
	}
}

func delay(w *flare.ResponseWriter, r *flare.Request) error {
	s, err := strconv.ParseFloat(r.PathValue("s"), 64)
	if err != nil || !(s >= 0) {
		return &flare.StatusError{Code: http.StatusBadRequest, Message: "the delay must be a number of seconds"}
	}
	time.Sleep(time.Duration(min(s, 10) * float64(time.Second)))
	return w.JSON(http.StatusOK, seen(r))
}

// encode returns v as JSON in a content coding.
func encode(coding string, v any) ([]byte, error) {
	var b stdbytes.Buffer
	e, err := flare.NewEncoder(&b, coding, -1)
	if err != nil {
		return nil, err
	}
	if err := json.NewEncoder(e).Encode(v); err != nil {
		return nil, err
	}
	if err := e.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// jsonOrNil returns text that is JSON as it is, and nil otherwise.
func jsonOrNil(text []byte) any {
	if !json.Valid(text) {
		return nil
	}
	return json.RawMessage(text)
}
