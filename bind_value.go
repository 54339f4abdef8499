package flare

import (
	"encoding"
	"reflect"
	"strconv"
	"strings"
)

// This file is layer 5 (surface): texts of a request as values of Go.

// The rules that a text may break. They do not repeat it.
const (
	ruleInt   = "must be a whole number within its range"
	ruleFloat = "must be a number"
	ruleBool  = "must be true or false"
	ruleText  = "is malformed"
)

// A valueSetter sets v to what at least one text says, and returns the rule that they
// break, "" for none.
type valueSetter func(v reflect.Value, texts []string) (rule string)

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// setterOf returns what sets values of a type, nil for a type that no text is.
func setterOf(t reflect.Type) valueSetter {
	switch {
	case reflect.PointerTo(t).Implements(textUnmarshaler):
		return bindText
	case t.Kind() == reflect.Pointer:
		inner := setterOf(t.Elem())
		if inner == nil {
			return nil
		}
		return func(v reflect.Value, texts []string) string {
			v.Set(reflect.New(t.Elem()))
			return inner(v.Elem(), texts)
		}
	case t.Kind() == reflect.Slice:
		inner := setterOf(t.Elem())
		if inner == nil {
			return nil
		}
		return func(v reflect.Value, texts []string) string {
			v.Set(reflect.MakeSlice(t, len(texts), len(texts)))
			for i := range texts {
				if rule := inner(v.Index(i), texts[i:i+1]); rule != "" {
					return rule
				}
			}
			return ""
		}
	}
	return kindSetters[t.Kind()]
}

var kindSetters = map[reflect.Kind]valueSetter{
	reflect.String: bindString, reflect.Bool: bindBool,
	reflect.Int: bindInt, reflect.Int8: bindInt, reflect.Int16: bindInt, reflect.Int32: bindInt, reflect.Int64: bindInt,
	reflect.Uint: bindUint, reflect.Uint8: bindUint, reflect.Uint16: bindUint, reflect.Uint32: bindUint, reflect.Uint64: bindUint,
	reflect.Float32: bindFloat, reflect.Float64: bindFloat,
}

func bindText(v reflect.Value, texts []string) string {
	if v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(texts[0])) != nil {
		return ruleText
	}
	return ""
}

func bindString(v reflect.Value, texts []string) string {
	v.SetString(texts[0])
	return ""
}

// bindBool: "on" is what a checkbox sends.
func bindBool(v reflect.Value, texts []string) string {
	b, err := strconv.ParseBool(texts[0])
	if strings.EqualFold(texts[0], "on") {
		b, err = true, nil
	}
	if v.SetBool(b); err != nil {
		return ruleBool
	}
	return ""
}

func bindInt(v reflect.Value, texts []string) string {
	n, err := strconv.ParseInt(texts[0], 10, v.Type().Bits())
	if v.SetInt(n); err != nil {
		return ruleInt
	}
	return ""
}

func bindUint(v reflect.Value, texts []string) string {
	n, err := strconv.ParseUint(texts[0], 10, v.Type().Bits())
	if v.SetUint(n); err != nil {
		return ruleInt
	}
	return ""
}

// bindFloat: NaN and infinities are words, and no numbers of a client's.
func bindFloat(v reflect.Value, texts []string) string {
	n, err := strconv.ParseFloat(texts[0], v.Type().Bits())
	if v.SetFloat(n); err != nil || n-n != 0 {
		return ruleFloat
	}
	return ""
}
