package main

import (
	"net/http"

	"flare"
)

// authRoutes adds cookies and authentication, in the shapes of httpbin.
func authRoutes(mux *flare.Mux) {
	mux.Get("/cookies", cookies)
	mux.Get("/cookies/set", func(w *flare.ResponseWriter, r *flare.Request) error {
		var set []*flare.Cookie
		for name, values := range r.Query() {
			set = append(set, &flare.Cookie{Name: name, Value: values[0], Path: "/"})
		}
		return setCookies(w, set...)
	})
	mux.Get("/cookies/set/{name}/{value}", func(w *flare.ResponseWriter, r *flare.Request) error {
		return setCookies(w, &flare.Cookie{Name: r.PathValue("name"), Value: r.PathValue("value"), Path: "/"})
	})
	mux.Get("/cookies/delete", func(w *flare.ResponseWriter, r *flare.Request) error {
		var set []*flare.Cookie
		for name := range r.Query() {
			set = append(set, &flare.Cookie{Name: name, Path: "/", MaxAge: -1})
		}
		return setCookies(w, set...)
	})
	mux.Get("/basic-auth/{user}/{password}", basicAuth)
	mux.Get("/bearer", bearer)
	for _, qop := range []string{"auth", "auth-int"} {
		for _, algorithm := range []string{"MD5", "SHA-256", "SHA-512-256", "MD5-sess", "SHA-256-sess", "SHA-512-256-sess"} {
			v := &flare.DigestVerifier{Realm: "flare", QOP: []string{qop}, Algorithms: []string{algorithm}}
			mux.Handle("/digest-auth/"+qop+"/{user}/{password}/"+algorithm, digestAuth(v))
		}
		mux.Handle("/digest-auth/"+qop+"/{user}/{password}", digestAuth(&flare.DigestVerifier{Realm: "flare", QOP: []string{qop}}))
	}
}

// setCookies sets what the client has asked for, and sends it to where it can
// see that. SetCookie would answer 500 to a cookie that cannot be: that is for
// mistakes of the program, this one is the client's.
func setCookies(w *flare.ResponseWriter, set ...*flare.Cookie) error {
	for _, c := range set {
		if err := c.Valid(); err != nil {
			return &flare.StatusError{Code: http.StatusBadRequest, Message: "no cookie can have that name or value", Err: err}
		}
		w.SetCookie(c)
	}
	return w.Redirect(http.StatusFound, "/cookies")
}

// cookies tells which cookies the client has sent.
func cookies(w *flare.ResponseWriter, r *flare.Request) error {
	sent := struct {
		Cookies map[string]string `json:"cookies"`
	}{map[string]string{}}
	for name, value := range r.Cookies() {
		sent.Cookies[name] = value
	}
	return w.JSON(http.StatusOK, sent)
}

// authenticated is what all of the routes below answer.
type authenticated struct {
	Authenticated bool   `json:"authenticated"`
	User          string `json:"user,omitempty"`
	Token         string `json:"token,omitempty"`
}

// basicAuth wants the user and the password that the path has.
func basicAuth(w *flare.ResponseWriter, r *flare.Request) error {
	user, password, ok := r.BasicAuth()
	if !ok || !flare.SecretEqual(user, r.PathValue("user")) || !flare.SecretEqual(password, r.PathValue("password")) {
		return w.Unauthorized(flare.BasicChallenge("flare"))
	}
	return w.JSON(http.StatusOK, authenticated{Authenticated: true, User: user})
}

// bearer takes any token.
func bearer(w *flare.ResponseWriter, r *flare.Request) error {
	token, ok := r.BearerToken()
	if !ok {
		return w.Unauthorized(flare.BearerChallenge("flare", ""))
	}
	return w.JSON(http.StatusOK, authenticated{Authenticated: true, Token: token})
}

// digestAuth wants the user and the password that the path has.
func digestAuth(v *flare.DigestVerifier) flare.HandlerFunc {
	return func(w *flare.ResponseWriter, r *flare.Request) error {
		body, err := r.Bytes()
		if err != nil {
			return err
		}
		user, ok, err := v.Verify(w, r, body, func(user string) (string, bool) {
			return r.PathValue("password"), flare.SecretEqual(user, r.PathValue("user"))
		})
		if !ok {
			return err
		}
		return w.JSON(http.StatusOK, authenticated{Authenticated: true, User: user})
	}
}
