-- How pandoc reads a page of the site. The input is JSON, written by pages.py:
--   meta   what page.html asks for
--   pages  the names of the notebooks that have a page
--   parts  what stands on the page, in order: {kind, text, place, style}

local MARKDOWN = "commonmark+autolink_bare_uris+pipe_tables+strikeout+task_lists+tex_math_dollars"

-- Words stay at the top level, where the table of contents looks for headings. Each part is read by itself: what one cell
-- leaves open does not swallow the next. pandoc takes a table's last row for words if no line break follows.
local read = {
  markdown = function(part) return pandoc.read(part.text .. "\n", MARKDOWN).blocks end,
  code = function(part) return { pandoc.Div(pandoc.CodeBlock(part.text, { class = "python" }), { class = part.style }) } end,
  html = function(part) return { pandoc.RawBlock("html", part.text) } end,
}

local has_page, taken, title = {}, {}, nil
local section, pictures = "", 0 -- the heading above, and how many pictures stand below it

local function heading(element)
  -- The ids that JupyterLab gives, so that links to a section of a notebook hold here, too.
  section, pictures = pandoc.utils.stringify(element), 0
  local id = section:gsub(" ", "-")
  taken[id] = (taken[id] or 0) + 1
  element.identifier = taken[id] > 1 and id .. "-" .. taken[id] or id
  title = title or element.content
  return element
end

local function link(element)
  if element.target:find("^%a[%w+.-]*:") or element.target:find("^#") then return nil end
  if element.target:find("^%w+%.html$") then return nil end -- another page of the site
  local glossary = element.target:match("^%.%./docs/glossary%.md(.*)$")
  if glossary then -- its headings have the ids of GitHub there, and those of JupyterLab here
    element.target = "glossary.html" .. glossary:gsub("^#%l", string.upper)
    return element
  end
  local name, fragment = element.target:gsub("^%./", ""):match("^([^/#]+)%.ipynb(.*)$")
  if not has_page[name or ""] then return element.content end -- a file of the project: only its words stay
  element.target = name .. ".html" .. fragment
  return element
end

-- A picture without words of its own has those of its section: "Figure 2: How many of each?".
local function alternative_text()
  pictures = pictures + 1
  return "Figure" .. (pictures > 1 and " " .. pictures or "") .. (section ~= "" and ": " .. section or "")
end

local function image(element)
  local words = alternative_text()
  if #element.caption == 0 then element.caption = words end
  return element
end

local function raw(element)
  element.text = element.text:gsub("<img(%s[^>]*)", function(attributes)
    local words = alternative_text():gsub("&", "&amp;"):gsub('"', "&quot;"):gsub("<", "&lt;")
    if attributes:find("%salt%s*=%s*[\"'][^\"']") then return nil end
    return '<img alt="' .. words .. '"' .. attributes:gsub("%salt%s*=%s*[\"'][\"']", "")
  end)
  return element
end

local function wide(element) return pandoc.Div(element, { class = "wide", tabindex = "0" }) end

function Reader(input)
  local page, blocks = pandoc.json.decode(tostring(input), false), pandoc.Blocks {}
  for _, name in ipairs(page.pages) do has_page[name] = true end
  for _, part in ipairs(page.parts) do
    blocks:insert(pandoc.RawBlock("html", "<!-- from " .. part.place .. " -->")) -- for messages, see pages.py
    blocks:extend(read[part.kind](part))
  end
  blocks = blocks:walk { Table = wide }
  local in_order = { traverse = "topdown", Header = heading, Link = link, Image = image, RawBlock = raw, RawInline = raw }
  blocks = blocks:walk(in_order)
  page.meta.title = title
  return pandoc.Pandoc(blocks, page.meta)
end
