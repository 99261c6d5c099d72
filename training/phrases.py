"""Phrases that describe how a picture looks, never what is in it, by mood: what the expansion is taught. No code.

Each word of them is one of the words that the expansion may add.
"""

from __future__ import annotations

# What goes with anything.
GENERAL = """
highly detailed, intricate details, fine detail, sharp focus, crisp edges, clear focus, balanced composition, dynamic
composition, elegant composition, strong composition, harmonious, cohesive, beautiful, stunning, gorgeous, impressive,
professional, polished, refined, precise, elaborate, complex, accurate, realistic, expressive, inspired, thoughtful,
award winning, very coherent, smooth, clean lines, rich texture, subtle shading, delicate gradients, layered depth,
volumetric light, ambient light, natural light, directional light, perfect contrast, high resolution, ultra clear,
extremely detailed, great detail, best quality, superb, brilliant, vivid colors, rich colors, color graded, creative,
original, artistic, aesthetic, unique, inspiring, confident, graceful, epic, full color, wide angle, close view, open
space, cinematic, dramatic, atmospheric, amazing, marvelous, wonderful, attractive, determined, advanced, magnificent,
fancy, modern, contemporary, iconic, novel, deep depth, pretty, cute, lovely
"""

MOODS: dict[str, str] = {
    "warm": """
warm light, golden glow, soft sunlight, amber tones, gentle highlights, glowing, radiant, sunny, golden hour, rosy,
cozy, comforting, inviting, tender, intimate, nostalgic, autumn palette, orange gradient, copper accents, late
afternoon, long shadows, sunset, sunrise, hazy background, dreamy haze, creamy tones, candlelight, lamplight,
welcoming, romantic, summer, mellow, earthy, rustic, serene, idyllic, joyful
""",
    "cold": """
cold light, cool tones, blue shadows, icy, frosty, crisp air, winter, pale sky, silver highlights, moonlight, silent,
still, quiet mood, lonely, distant, clear, polar, teal accents, cobalt, steel gray, muted palette, misty background,
foggy, diffused glow, overcast, melancholy, wistful, remote, calm, clean, minimal, pristine, pure, translucent,
breathtaking
""",
    "dark": """
dark, moody, dim light, deep shadows, low key lighting, mysterious, ominous, haunting, eerie, gothic, gloomy, black
background, strong contrast, single beam, rim light, silhouette, noir, smoky, hazy, somber, brooding, tense, intense,
gritty, grim, sinister, shadowy, dusky, midnight, crimson glow, ancient, fierce, stark, raw, grainy texture,
dystopian, heavy atmosphere, cinematic lighting, dramatic
""",
    "night": """
night, neon glow, glowing lights, electric blue, magenta highlights, cyberpunk, futuristic, vivid contrast, luminous,
fluorescent, holographic, sleek, chrome, metallic sheen, glossy, urban mood, dark background, reflective surface,
violet haze, purple, starlight, sparkling, cosmic, infinite depth, digital, science fiction, high tech, energetic,
vibrant, backlit, edgy, cool, dynamic lighting, cinematic, atmospheric
""",
    "fantasy": """
magical, enchanted, mystical, fantasy, fairy tale, whimsical, dreamlike, ethereal, surreal, legendary, mythical, epic,
heroic, majestic, grand, divine, sacred, celestial glow, floating particles, shimmering light, iridescent, sparkling,
luminous, glowing aura, radiant, ornate, intricate, golden accents, otherworldly, timeless, ancient, wondrous, lush,
emerald, violet, soft mist, glittering, marvelous, imaginative, visionary, symbolic, spiritual, fantastic, arcane
""",
    "calm": """
calm, peaceful, tranquil, serene, gentle, soft light, pastel colors, muted tones, delicate, airy, light, simple,
minimalist, quiet, relaxed, restful, balanced, open space, empty background, smooth gradients, morning light, dawn,
hazy, pale, tender, subtle, graceful, flowing lines, poetic, lyrical, meditative, floating, soothing, clean, natural,
organic, hopeful, innocent, slow, timeless, even lighting, spring, blooming, fresh
""",
    "lively": """
vibrant, colorful, bright, playful, cheerful, lively, energetic, dynamic, bold colors, saturated, vivid, joyful,
festive, happy, funny, quirky, bouncy, whimsical, fun, sunny, dazzling, rhythmic, expressive, spontaneous, loose,
free, exuberant, strong shapes, rounded forms, pop, graphic, contrasting, glossy, sparkling, high energy, optimistic,
adventurous, spirited, friendly, bright lighting, adorable, charming, sweet
""",
    "photograph": """
photographic, realistic, shallow depth of field, soft focus background, sharp focus, natural lighting, studio
lighting, professional, editorial, candid, documentary, film grain, analog, vintage, macro, telephoto, wide angle,
blurred background, creamy bokeh, high dynamic range, true color, fine texture, honest, clear, crisp, balanced
exposure, black and white, reflective, glossy, matte, elegant, fashionable, luxurious, sleek, cinematic,
rim light, soft shadows, neutral tones, backlit, silver, lens flare, high definition, perfect light
""",
    "painterly": """
painterly, expressive strokes, loose, textured, thick paint, impressionist, classical, baroque, romantic, traditional,
layered, translucent, delicate washes, flowing, earthy palette, rich pigment, muted, luminous, gestural, hand drawn,
handmade, rough, organic, decorative, ornamental, stylized, graceful lines, warm undertones, subtle gradients, soft
edges, artistic, fine art, masterpiece, poetic, timeless, elegant, storybook
""",
    "grand": """
epic, grand, vast, monumental, majestic, imposing, powerful, heroic, glorious, dramatic sky, dramatic lighting, wide
view, sweeping, panoramic, towering, infinite, deep perspective, sharp, intricate, elaborate, ornate, golden,
luxurious, rich, lavish, opulent, noble, dignified, ancient, historic, legendary, brilliant light, volumetric,
atmospheric haze, cinematic, thrilling, breathtaking, magnificent, spectacular, immense, strong, solid
""",
    "crafted": """
crafted, handmade, delicate, fine texture, layered, folded, carved, engraved, polished, woven, ornate, decorative,
geometric, symmetrical, symmetry, patterned, tactile, matte, metallic, glazed, embossed, translucent, transparent,
miniature, precise, clean edges, studio light, soft shadows, neutral background, simple background, minimal, modern,
sculpted, smooth, rounded, elegant, curved, intricate, subtle highlights, detailed, artisan, unique
""",
    "retro": """
retro, vintage, nostalgic, faded colors, grainy, worn, aged, dusty, sepia tones, analog, antique, classic, old,
halftone, muted, warm tint, printed, flat, graphic, bold outlines, limited palette, pastel, pop, playful, stylish,
elegant, decorative, art deco, geometric, glamour, bright, matte texture, psychedelic, smoky, charming, quaint,
romantic, sentimental, simple, teal, crimson, soft contrast
""",
}

# Words of a prompt that speak of a mood.
SIGNS: dict[str, str] = {
    "warm": "sun sunny sunlight autumn summer desert fire lamp candle kitchen bread cozy warm golden evening farm",
    "cold": "snow snowy ice winter frost sea ocean mountain fog foggy mist glacier polar penguin rain rainy cold",
    "dark": "skull crow raven ghost graveyard cave storm thunder abandoned dark horror wolf bat gothic shadow alley",
    "night": "night neon robot city street space spaceship planet cyberpunk car rocket futuristic android moon stars",
    "fantasy": "dragon castle wizard fairy elf unicorn knight magic mermaid temple phoenix goblin spirit enchanted",
    "calm": "lake river garden flower meadow tea cottage bird swan lotus cloud morning spring beach field sleeping",
    "lively": "parrot balloon children carnival party toy candy dancing clown festival juggler circus fruit cartoon",
    "photograph": "portrait photo photograph woman man face wedding camera food bottle shoes watch baker nurse",
    "painterly": "painting watercolor oil sketch drawing still life vase bouquet boat harbor ink impressionist",
    "grand": "cathedral palace army battle king queen canyon tower ship volcano whale lion eagle city waterfall",
    "crafted": "paper clay origami sculpture wooden glass porcelain embroidery statue chess ring mask teapot",
    "retro": "vintage train radio bicycle gramophone diner old poster typewriter telephone 1950s steam market",
}

# The moods that suit a prompt without a sign.
NEUTRAL = ("warm", "calm", "lively", "grand", "fantasy")
