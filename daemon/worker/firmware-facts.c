/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/firmware-facts.h"

#include <string.h>

#include "base/text.h"

static void tell(struct worker *w, const char *name, const char *value)
{
    char key[64];
    snprintf(key, sizeof(key), KEY_FIRMWARE "%s", name);
    worker_tell(w, key, value);
}

static const char *file_name(const struct package_file *f)
{
    if (!f)
        return "";
    const char *slash = strrchr(f->path, '/');
    return slash ? slash + 1 : f->path;
}

void facts_tell(struct worker *w, const struct package *p)
{
    static const struct version unknown;
    const struct version *v = p->version_known ? &p->version : &unknown;
    char geometry[32] = "", sha256[SHA256_HEX_SIZE], size[24];

    if (p->geometry.page_size)
        nand_geometry_name(&p->geometry, geometry, sizeof(geometry));
    text_hex(p->content_sha256, SHA256_SIZE, sha256);
    snprintf(size, sizeof(size), "%llu", (unsigned long long)p->size);

    const struct {
        const char *name, *value;
    } facts[] = {
        {"id", p->id},
        {"name", p->version_known ? v->name : p->top},
        {"model", v->model},
        {"prefix", v->prefix},
        {"baseline", v->baseline},
        {"release", v->release},
        {"memory", v->memory},
        {"edition", v->edition},
        {"chip", p->chip},
        {"geometry", geometry},
        {"programmer", file_name(p->programmer)},
        {"factory", p->factory_only ? "1" : "0"},
        {"size", size},
        {"sha256", sha256},
    };
    for (size_t i = 0; i < ARRAY_SIZE(facts); i++)
        tell(w, facts[i].name, facts[i].value);
}

int facts_judge(struct worker *w, const struct package *p, struct error *e)
{
    for (size_t i = 0; i < p->n_problems; i++)
        worker_problem(w, p->problems[i]);
    if (p->problems_dropped > 0) {
        _cleanup_free_ char *more = text_printf("and %zu more", p->problems_dropped);
        worker_problem(w, more ? more : "and more");
    }
    for (size_t i = 0; i < p->n_notes; i++)
        worker_log(w, "%s", p->notes[i]);
    return package_check(p, e);
}
