# Turns the Redis scripts into C: awk -f lua2c.awk common.lua script.lua... > lua.c
# A script's line "-- keys: EPOCH MARKS" names its keys: C gets the list, the script gets locals of these names. The text of the
# common file follows, then the script's own. Comments and indentation are left out.
function finish(   i, s) {
	if (name == "common")
		common = body
	if (name == "" || name == "common")
		return
	printf "static const char *const %s_keys[] = {", name
	for (i = 1; i <= nkeys; i++)
		printf " KEYS_%s,", keys[i]
	print " };"
	printf "struct lua lua_%s = { { .name = \"%s\", .body =\n", name, name
	s = "local "
	for (i = 1; i <= nkeys; i++)
		s = s (i > 1 ? ", " : "") keys[i]
	s = s " = "
	for (i = 1; i <= nkeys; i++)
		s = s (i > 1 ? ", " : "") "KEYS[" i "]"
	printf "\"%s\\n\"\n%s%s}, %s_keys, %d };\n\n", s, common, body, name, nkeys
	all = all "\t&lua_" name ",\n"
}
BEGIN {
	print "/* Made by scripts/lua2c.awk from src/coord/lua. */"
	print "#include \"coord/lua.h\"\n\n#include <stddef.h>\n\n#include \"coord/keys.h\"\n"
}
FNR == 1 {
	finish()
	name = FILENAME
	sub(/.*\//, "", name)
	sub(/\.lua$/, "", name)
	nkeys = 0
	body = ""
}
/^-- keys: / {
	nkeys = split(substr($0, 10), keys, " ")
	next
}
{
	sub(/^[ \t]+/, "")
	if ($0 == "" || $0 ~ /^--/)
		next
	gsub(/\\/, "&&")
	gsub(/"/, "\\\"")
	body = body "\"" $0 "\\n\"\n"
}
END {
	finish()
	printf "struct lua *const lua_all[] = {\n%s\tNULL\n};\n", all
}
