package flare

import (
	"encoding/json"
	"errors"
	"net/http"
)

// This file is layer 5 (surface): errors as problem details (RFC 9457).

// A problem is the body of application/problem+json.
type problem struct {
	Type   string      `json:"type"`
	Title  string      `json:"title"`
	Status int         `json:"status"`
	Detail string      `json:"detail,omitempty"`
	Errors FieldErrors `json:"errors,omitempty"`
}

// ProblemHandler is a Server.ErrorHandler that answers with problem details (RFC
// 9457), application/problem+json, for clients that are programs: the status and its
// name, the message of a *StatusError as detail, and FieldErrors, as those of Bind,
// as a member errors. Nothing is said of other errors but 500.
func ProblemHandler(w *ResponseWriter, r *Request, err error) {
	p := problem{Type: "about:blank", Status: w.Status()}
	var status *StatusError
	if errors.As(err, &status) {
		p.Status, p.Detail = status.Code, status.Message
		errors.As(status.Err, &p.Errors)
	}
	p.Title = http.StatusText(p.Status)
	body, err := json.Marshal(p)
	if err == nil {
		w.Blob(p.Status, "application/problem+json", body)
	}
}
