// Command arenafasthttp serves the arena's profiles with fasthttp as its documentation would: with its
// own compression, and its own way to send files.
package main

import (
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"flare/bench/arena"
)

func main() {
	arena.Main("fasthttp", func(files string) arena.Server {
		return &fasthttp.Server{Handler: routes(files), StreamRequestBody: true, MaxRequestBodySize: 64 << 20}
	})
}

func routes(files string) fasthttp.RequestHandler {
	compressed := fasthttp.CompressHandler(func(ctx *fasthttp.RequestCtx) { rows(ctx, "/gzip/") })
	downloads := arena.Downloads()
	return func(ctx *fasthttp.RequestCtx) {
		path := string(ctx.Path())
		memory, isMemory := strings.CutPrefix(path, "/memory/")
		file, isFile := strings.CutPrefix(path, "/file/")
		switch {
		case path == "/sum":
			sum(ctx)
		case strings.HasPrefix(path, "/json/"):
			rows(ctx, "/json/")
		case strings.HasPrefix(path, "/gzip/"):
			compressed(ctx)
		case path == "/upload" && ctx.IsPost():
			n, err := io.Copy(io.Discard, ctx.RequestBodyStream())
			if err != nil {
				ctx.Error(err.Error(), fasthttp.StatusBadRequest)
				return
			}
			plain(ctx, strconv.FormatInt(n, 10))
		case isMemory && downloads[memory] != nil:
			ctx.SetContentType("application/octet-stream")
			ctx.Response.SetBodyRaw(downloads[memory])
		case isFile && downloads[file] != nil:
			fasthttp.ServeFileUncompressed(ctx, filepath.Join(files, file))
			ctx.SetContentType("application/octet-stream")
		case strings.HasPrefix(path, "/page/"):
			plain(ctx, "Hello, World!")
		default:
			ctx.Error("not found", fasthttp.StatusNotFound)
		}
	}
}

func plain(ctx *fasthttp.RequestCtx, text string) {
	ctx.SetContentType("text/plain")
	ctx.SetBodyString(text)
}

// sum adds the parameters a and b, and the body if there is one.
func sum(ctx *fasthttp.RequestCtx) {
	a, errA := ctx.QueryArgs().GetUint("a")
	b, errB := ctx.QueryArgs().GetUint("b")
	total := a + b
	var errBody error
	if ctx.IsPost() {
		var p []byte
		if p, errBody = io.ReadAll(ctx.RequestBodyStream()); errBody == nil {
			var n int
			n, errBody = strconv.Atoi(strings.TrimSpace(string(p)))
			total += n
		}
	}
	if err := errors.Join(errA, errB, errBody); err != nil {
		ctx.Error(err.Error(), fasthttp.StatusBadRequest)
		return
	}
	plain(ctx, strconv.Itoa(total))
}

func rows(ctx *fasthttp.RequestCtx, prefix string) {
	n, errN := strconv.Atoi(strings.TrimPrefix(string(ctx.Path()), prefix))
	m, errM := ctx.QueryArgs().GetUint("m")
	answer, ok := arena.Answer(n, m)
	if errN != nil || errM != nil || !ok {
		ctx.Error("not found", fasthttp.StatusNotFound)
		return
	}
	ctx.SetContentType("application/json")
	text, err := json.Marshal(answer)
	if err != nil {
		ctx.Error(err.Error(), fasthttp.StatusInternalServerError)
		return
	}
	ctx.Response.SetBodyRaw(text)
}
